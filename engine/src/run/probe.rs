//! Keys: computed when a stage is ready, from what its inputs actually are, and looked up. What has
//! a result does not run.

use std::sync::Arc;

use super::Run;
use super::state::State;
use super::worker::{ProbeResult, ProbeTask, Task};
use crate::cache::stage_result::StageResult;
use crate::ctx::budget_error;
use crate::digest::Digest;
use crate::event::Status;
use crate::files::InputFile;
use crate::graph::NodeId;
use crate::key::KeyInputs;
use crate::op::{Body, OpError};

impl Run<'_, '_> {
    pub(super) fn input_digests(&self, id: NodeId) -> Vec<(&'static str, Digest)> {
        let mut digests = Vec::new();
        for (arg, input) in self.graph.inputs(id) {
            if let Some(result) = self.result(*input) {
                digests.push((*arg, result.output));
            }
        }
        digests
    }

    /// Computes a stage's key. Where no file has to be read, that takes microseconds and is done
    /// here; what the result map does not have then is looked up by a worker.
    pub(super) fn probe(&mut self, id: NodeId) {
        if self.has_missing_input(id) {
            return;
        }
        self.stage(id).state.transition_to(State::Probing);
        let node = Arc::clone(self.graph.node(id));
        let inputs = self.input_digests(id);
        if node.op.sources.is_none() {
            let env = &self.config.env;
            let key_inputs = KeyInputs::new(&node.op, &node.args, inputs.clone(), &[], env);
            let key = key_inputs.hash();
            if self.violates_locked_key(id, &key, &key_inputs) {
                return;
            }
            if let Some(result) = self.usable_result(&key) {
                self.stage(id).key = Some(key);
                return self.reuse(id, result);
            }
        }
        let task = ProbeTask {
            id,
            node,
            inputs,
            base: self.config.base.clone(),
            cache: Arc::clone(&self.config.cache),
            env: Arc::clone(&self.config.env),
        };
        self.send_task(Task::Probe(Box::new(task)));
    }

    /// The result of a key in the result map, unless the run wants a better one.
    fn usable_result(&self, key: &Digest) -> Option<Arc<StageResult>> {
        let result = self.results.get(key)?;
        self.suffices(result).then(|| Arc::clone(result))
    }

    /// Whether a result will do: with `retry_bad` one that lacks rejected items does not.
    pub(super) fn suffices(&self, result: &StageResult) -> bool {
        result.rejected == 0 || !self.config.retry_bad
    }

    /// Handles what a worker found for a stage.
    pub(super) fn handle_probe(&mut self, id: NodeId, probe: Result<Box<ProbeResult>, OpError>) {
        let probe = match probe {
            Ok(probe) => *probe,
            Err(error) => return self.fail(id, &error),
        };
        self.add_content_paths(&probe.sources);
        if self.violates_locked_key(id, &probe.key, &probe.key_inputs) {
            return;
        }
        let key = probe.key;
        let stage = self.stage(id);
        stage.key = Some(key);
        stage.took_ms = probe.took_ms;
        if let Some(record) = probe.record {
            self.results
                .insert(Arc::new(StageResult::from_record(key, &record)));
        }
        if let Some(result) = self.usable_result(&key) {
            return self.reuse(id, result);
        }
        // Most stages read no files, and very many may wait for resources: those get no `InFlight`
        // yet.
        if !probe.sources.is_empty() || self.stage(id).in_flight.is_some() {
            self.in_flight(id).sources = probe.sources;
        }
        self.wait_for_resources(id);
    }

    fn add_content_paths(&mut self, sources: &[InputFile]) {
        let is_new = |file: &InputFile| self.content_paths.get(&file.digest) != Some(&file.path);
        if !sources.iter().any(is_new) {
            return;
        }
        // Stages that run hold the old map: it is copied for them, which is seldom.
        let content_paths = Arc::make_mut(&mut self.content_paths);
        for file in sources {
            let before = content_paths.insert(file.digest, file.path.clone());
            if let Some(path) = before.filter(|path| *path != file.path) {
                self.same_content
                    .entry(file.digest)
                    .or_default()
                    .insert(path);
            }
        }
    }

    /// Ends a stage with a result that there was before it ran.
    pub(super) fn reuse(&mut self, id: NodeId, result: Arc<StageResult>) {
        if self.violates_locked_output(id, &result.output) || self.exceeds_budget(id, &result) {
            return;
        }
        self.any_side_outputs |= !result.side_outputs.is_empty();
        let stage = self.stage(id);
        stage.result = Some(result);
        let status = if stage.upstream_ran {
            Status::UpToDate
        } else {
            Status::Reused
        };
        self.end_stage(id, status, None);
        self.notify_downstream(id, false);
    }

    /// Whether a cached result lacks more items than the stage's `@max_bad` allows, which is not in
    /// the key; the stage has failed then.
    fn exceeds_budget(&mut self, id: NodeId, result: &StageResult) -> bool {
        let node = self.graph.node(id);
        // How many units the items of a map stage had is not in its record.
        let (Some(share_ppm), Body::Run(_)) = (node.attributes.max_bad_ppm, &node.op.body) else {
            return false;
        };
        let total = result.rejected + result.count.unwrap_or(0);
        let first_reason = || {
            let record = self.config.cache.records.get(&result.key).ok().flatten();
            let first = record.and_then(|record| record.rejected.into_iter().next());
            first.map_or(String::new(), |first| first.reason)
        };
        match budget_error(share_ppm, result.rejected, total, first_reason) {
            Some(error) => {
                self.fail(id, &error);
                true
            }
            None => false,
        }
    }
}
