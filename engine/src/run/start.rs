//! A stage whose result is missing: from the queue for resources to its worker.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reasons::reasons_to_run;
use super::side_outputs::upstream_side_outputs;
use super::state::State;
use super::worker::{RunTask, Task};
use super::{Resources, Run};
use crate::cache::Lease;
use crate::cache::lock::Holder;
use crate::cache::stage_result::StageResult;
use crate::ctx::StageParts;
use crate::digest::Digest;
use crate::event::Event;
use crate::graph::{Node, NodeId};
use crate::isolate::Isolation;
use crate::key::KeyInputs;
use crate::op::{Artifact, OpError};

fn unwritable_cache(cache: &Path) -> OpError {
    let what = format!(
        "it has no result in the cache {}, which cannot be written",
        cache.display()
    );
    let help = "make the folder writable, or name another one with --cache";
    OpError::failed(what, help)
}

/// How often a lease that another process holds is tried again. To be woken when a file lock is
/// free, a thread would have to block on it.
const LEASE_POLL: Duration = Duration::from_millis(50);

impl Run<'_, '_> {
    /// Puts a stage in the queue for cores, a GPU or memory.
    pub(super) fn wait_for_resources(&mut self, id: NodeId) {
        self.stage(id)
            .state
            .transition_to(State::WaitingForResources);
        let node = self.graph.node(id);
        let amount = Resources::of(&node.op, &node.attributes, &self.config.resources);
        self.queues.push_waiting_for_resources(id, amount);
    }

    /// Hands a stage to a worker. `amount` has been taken from what is free, and is given back if
    /// the stage does not start.
    pub(super) fn start(&mut self, id: NodeId, amount: Resources) {
        if self.has_missing_input(id) {
            return self.free.give_back(&amount);
        }
        let key_inputs = self.key_inputs(id);
        if self.stage(id).key != Some(key_inputs.hash()) {
            // While it waited, an input was rebuilt with other bytes.
            self.stage(id).state.transition_to(State::Ready);
            self.queues.push_ready(id);
            return self.free.give_back(&amount);
        }
        if !self.may_compute(&key_inputs.hash()) {
            self.free.give_back(&amount);
            let what = "it has no result, and its key is none of those that were found incomplete";
            let help = "name the workflow and params as they were, or run it instead of --repair";
            return self.fail(id, &OpError::failed(what, help));
        }
        if !self.config.cache.is_writable() {
            self.free.give_back(&amount);
            return self.fail(id, &unwritable_cache(self.config.cache.folder()));
        }
        if !self.acquire_lease(id) {
            return self.free.give_back(&amount);
        }
        let node = Arc::clone(self.graph.node(id));
        let stage = self.stage(id);
        stage.state.transition_to(State::Running);
        let is_first_attempt = stage.attempt == 1;
        self.in_flight(id).taken = Some(amount);
        if is_first_attempt {
            let why = self.reasons_to_run(id, &key_inputs);
            self.emit(Event::StageStarted {
                stage: node.name.clone(),
                op: node.op.signature.name.into(),
                why,
            });
        }
        let isolation = self.isolation_of(&node);
        let parts = self.parts(id, key_inputs);
        self.send_task(Task::Run(Box::new(RunTask {
            id,
            node,
            parts,
            isolation,
        })));
    }

    /// Whether the run is one that may compute the result with this key.
    fn may_compute(&self, key: &Digest) -> bool {
        let repair = self.config.repair.as_ref();
        repair.is_none_or(|keys| keys.contains(key))
    }

    /// How to start a process for a stage that wants one.
    fn isolation_of(&mut self, node: &Node) -> Option<Arc<Isolation>> {
        node.attributes.isolate.as_ref()?;
        let isolation = self.config.isolation.clone();
        if isolation.is_none() {
            let text = "@isolate has no effect: this program cannot start a process for a stage";
            self.emit(Event::Warning {
                stage: Some(node.name.clone()),
                text: text.to_owned(),
            });
        }
        isolation
    }

    /// Takes the lease of the stage's key; whether the stage may run now. If another process, or
    /// another stage of this run, holds it, the stage waits for that one's result.
    fn acquire_lease(&mut self, id: NodeId) -> bool {
        let key = self
            .stage(id)
            .key
            .expect("a stage that starts has been probed");
        let holder = match self.config.cache.lease(&key) {
            Lease::Held(lease) => {
                self.in_flight(id).lease = lease;
                // Looked up again now that no other process can compute it: whoever held the lease
                // until a moment ago may have left a result since this stage was probed.
                return !self.reuse_shared_result(id, &key);
            }
            Lease::HeldByOther(holder) => holder,
        };
        if self.config.no_wait && !holder.is_this() {
            let what = format!("its result is being computed by {holder}");
            let help = "wait for that process to finish, then run again";
            self.fail(id, &OpError::failed(what, help));
            self.computed_elsewhere += 1;
            return false;
        }
        self.stage(id).state.transition_to(State::WaitingForLease);
        self.queues.push_timer(id, Instant::now() + LEASE_POLL);
        self.announce_wait(id, holder);
        false
    }

    /// Tells listeners which other process a stage waits for, once for each.
    fn announce_wait(&mut self, id: NodeId, holder: Holder) {
        // The process id is 0 when the holder has just taken the lease and not written its name
        // yet.
        if holder.is_this() || holder.pid == 0 {
            return;
        }
        let in_flight = self.in_flight(id);
        if in_flight.waiting_for.as_ref() == Some(&holder) {
            return;
        }
        in_flight.waiting_for = Some(holder.clone());
        let Holder { pid, host, since } = holder;
        self.emit(Event::Waiting {
            stage: Some(self.graph.node(id).name.clone()),
            pid,
            host,
            since,
        });
    }

    /// Ends the stage with the result that another one has computed since it was probed, if there
    /// is one.
    fn reuse_shared_result(&mut self, id: NodeId, key: &Digest) -> bool {
        let record = match self.config.cache.hit(key) {
            Ok(Some(record)) => record,
            Ok(None) => return false,
            Err(error) => {
                self.fail(id, &OpError::Disk(error));
                return true;
            }
        };
        let result = Arc::new(StageResult::from_record(*key, &record));
        if !self.suffices(&result) {
            return false;
        }
        self.results.insert(Arc::clone(&result));
        self.reuse(id, result);
        true
    }

    /// What the stage's key depends on. Computed again rather than kept: very many stages may wait.
    fn key_inputs(&mut self, id: NodeId) -> KeyInputs {
        let node = Arc::clone(self.graph.node(id));
        let inputs = self.input_digests(id);
        let env = Arc::clone(&self.config.env);
        let sources = &self.in_flight(id).sources;
        KeyInputs::new(&node.op, &node.args, inputs, sources, &env)
    }

    fn parts(&mut self, id: NodeId, key_inputs: KeyInputs) -> StageParts {
        let node = Arc::clone(self.graph.node(id));
        let cache = Arc::clone(&self.config.cache);
        StageParts {
            stage: node.name.clone(),
            args: node.args.clone(),
            attributes: Arc::clone(&node.attributes),
            inputs: self.inputs(id),
            sources: self.in_flight(id).sources.clone(),
            content_paths: Arc::clone(&self.content_paths),
            side_outputs: self.side_outputs(id),
            key_inputs,
            scratch: cache.scratch(),
            cache,
            env: Arc::clone(&self.config.env),
            stop: self.config.stop.clone(),
            events: self.stage_events.0.clone(),
            retry_bad: self.config.retry_bad,
        }
    }

    fn inputs(&self, id: NodeId) -> Vec<(&'static str, Artifact)> {
        let mut inputs = Vec::new();
        for (arg, input) in self.graph.inputs(id) {
            if let Some(result) = self.result(*input) {
                let node = self.graph.node(*input);
                inputs.push((*arg, Artifact::of(&node.name, node.output, result)));
            }
        }
        inputs
    }

    fn side_outputs(&self, id: NodeId) -> BTreeMap<String, Vec<Artifact>> {
        // To find none costs a walk over everything upstream, for every stage.
        if !self.any_side_outputs {
            return BTreeMap::new();
        }
        let result_of = |upstream| self.result(upstream).map(Arc::as_ref);
        upstream_side_outputs(self.graph, id, result_of)
    }

    fn reasons_to_run(&mut self, id: NodeId, now: &KeyInputs) -> Vec<String> {
        let rebuilt = self.stage(id).rebuilds > 0;
        let last = self.ledger.get(&self.graph.node(id).name);
        let last = last.map(|last| &last.key);
        reasons_to_run(&self.config.cache, last, now, rebuilt)
    }
}
