//! A stage from its key to its worker: what is known is not run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::State;
use super::worker::{Job, Probe, ProbeJob, RunJob};
use super::{Resources, Run, side_outputs, why};
use crate::cache::Lease;
use crate::cache::ledger::StageResult;
use crate::cache::lock::Holder;
use crate::ctx::StageParts;
use crate::digest::Digest;
use crate::event::{Event, Status};
use crate::graph::NodeId;
use crate::key::KeyInputs;
use crate::op::{Artifact, OpError};

/// How often a stage that another process makes is looked at.
const LEASE_POLL: Duration = Duration::from_millis(50);

impl Run<'_, '_> {
    fn inputs(&self, id: NodeId) -> Vec<(&'static str, Artifact)> {
        let artifact = |input: NodeId| {
            let node = self.graph.node(input);
            Some(Artifact::of(&node.name, node.output, self.finished(input)?))
        };
        self.graph
            .inputs(id)
            .iter()
            .filter_map(|(arg, input)| Some((*arg, artifact(*input)?)))
            .collect()
    }

    fn input_digests(&self, id: NodeId) -> Vec<(&'static str, Digest)> {
        let digest =
            |(arg, input): &(&'static str, NodeId)| Some((*arg, self.finished(*input)?.output));
        self.graph.inputs(id).iter().filter_map(digest).collect()
    }

    /// Makes a stage's key. Where no file has to be looked at, that takes microseconds and is done
    /// here; what is then not known by heart is looked up by a worker.
    pub(super) fn probe(&mut self, id: NodeId) {
        if self.lacks_input(id) {
            return;
        }
        self.stage(id).state.go(State::Probing);
        let node = Arc::clone(self.graph.node(id));
        let inputs = self.input_digests(id);
        if node.op.sources.is_none() {
            let key_inputs =
                KeyInputs::new(&node.op, &node.args, inputs.clone(), &[], &self.config.env);
            let key = key_inputs.hash();
            if self.deviates(id, &key, &key_inputs) {
                return;
            }
            if let Some(finished) = self
                .known
                .get(&key)
                .filter(|finished| self.suffices(finished))
                .cloned()
            {
                self.stage(id).key = Some(key);
                return self.found(id, finished);
            }
        }
        let job = ProbeJob {
            id,
            node,
            inputs,
            base: self.config.base.clone(),
            cache: Arc::clone(&self.config.cache),
            env: Arc::clone(&self.config.env),
        };
        self.send(Job::Probe(Box::new(job)));
    }

    pub(super) fn probed(&mut self, id: NodeId, probe: Result<Box<Probe>, OpError>) {
        let probe = match probe {
            Ok(probe) => *probe,
            Err(error) => return self.fail(id, &error),
        };
        if probe
            .sources
            .iter()
            .any(|file| !self.content_paths.contains_key(&file.digest))
        {
            let content_paths = Arc::make_mut(&mut self.content_paths);
            content_paths.extend(
                probe
                    .sources
                    .iter()
                    .map(|file| (file.digest, file.path.clone())),
            );
        }
        if self.deviates(id, &probe.key, &probe.key_inputs) {
            return;
        }
        let stage = self.stage(id);
        stage.key = Some(probe.key);
        stage.took_ms = probe.took_ms;
        let record = probe
            .record
            .map(|record| Arc::new(StageResult::of(probe.key, &record)));
        if let Some(finished) = &record {
            self.known.insert(Arc::clone(finished));
        }
        match record
            .or_else(|| self.known.get(&probe.key).cloned())
            .filter(|finished| self.suffices(finished))
        {
            Some(finished) => self.found(id, finished),
            None => {
                // Most stages read no files, and very many may wait: those have nothing in hand
                // yet.
                if !probe.sources.is_empty() || self.stage(id).in_hand.is_some() {
                    self.in_hand(id).sources = probe.sources;
                }
                self.stage(id).state.go(State::Queued);
                self.queue(id);
            }
        }
    }

    /// A stage's result is known.
    fn found(&mut self, id: NodeId, finished: Arc<StageResult>) {
        if self.deviates_in(id, &finished.output) {
            return;
        }
        let status = if self.stage(id).ran_above {
            Status::UpToDate
        } else {
            Status::Reused
        };
        self.remember(id, finished);
        self.end_stage(id, status, None);
        self.tell_below(id, false);
    }

    /// Hands a stage to a worker; `amount` has been taken for it.
    pub(super) fn start(&mut self, id: NodeId, amount: Resources) {
        if self.lacks_input(id) {
            return self.free.give(&amount);
        }
        let key_inputs = self.key_inputs(id);
        if self.stage(id).key != Some(key_inputs.hash()) {
            // While it waited, an input was made again and came out different.
            self.stage(id).state.go(State::Ready);
            self.queues.ready(id);
            return self.free.give(&amount);
        }
        if !self.lease(id) {
            return self.free.give(&amount);
        }
        let node = Arc::clone(self.graph.node(id));
        let stage = self.stage(id);
        stage.state.go(State::Running);
        let first = stage.attempt == 1;
        self.in_hand(id).taken = Some(amount);
        if first {
            let (stage, op, why) = (
                node.name.clone(),
                node.op.signature.name.into(),
                self.why(id, &key_inputs),
            );
            self.emit(Event::StageStarted { stage, op, why });
        }
        let wanted = node.attributes.isolate.is_some();
        let isolation = self.config.isolation.clone().filter(|_| wanted);
        if wanted && isolation.is_none() {
            let text = "@isolate has no effect: this program cannot start a process for a stage"
                .to_owned();
            self.emit(Event::Warning {
                stage: Some(node.name.clone()),
                text,
            });
        }
        let parts = self.parts(id, key_inputs);
        self.send(Job::Run(Box::new(RunJob {
            id,
            node,
            parts,
            isolation,
        })));
    }

    /// Whether the stage may run now. If somebody else runs one of the same key, it waits for that
    /// one's result, and takes the result when it is there.
    fn lease(&mut self, id: NodeId) -> bool {
        let key = self
            .stage(id)
            .key
            .expect("a stage that starts has been probed");
        let theirs = match self.config.cache.lease(&key) {
            Lease::Held(lease) => {
                self.in_hand(id).lease = lease;
                return !self.shares(id, &key);
            }
            Lease::HeldByOther(holder) => holder,
        };
        if self.config.no_wait && !theirs.is_this() {
            let what = format!("its result is being made by {theirs}");
            self.fail(
                id,
                &OpError::failed(what, "wait for that process to end, then run again"),
            );
            return false;
        }
        let name = self.graph.node(id).name.clone();
        self.stage(id).state.go(State::Elsewhere);
        self.queues.delay(id, Instant::now() + LEASE_POLL);
        // Who has just taken the lease may not have written its name yet.
        let in_hand = self.in_hand(id);
        if !theirs.is_this() && theirs.pid != 0 && in_hand.elsewhere.as_ref() != Some(&theirs) {
            in_hand.elsewhere = Some(theirs.clone());
            let Holder { pid, host, since } = theirs;
            self.emit(Event::Waiting {
                stage: Some(name),
                pid,
                host,
                since,
            });
        }
        false
    }

    /// Takes the result if somebody else has made it since this stage was probed.
    fn shares(&mut self, id: NodeId, key: &Digest) -> bool {
        let found = self
            .config
            .cache
            .hit(key)
            .map(|record| Arc::new(StageResult::of(*key, &record)));
        let Some(finished) = found.filter(|finished| self.suffices(finished)) else {
            return false;
        };
        self.known.insert(Arc::clone(&finished));
        self.found(id, finished);
        true
    }

    /// What the stage's key is made of. It is made again rather than kept: very many stages may
    /// wait.
    fn key_inputs(&mut self, id: NodeId) -> KeyInputs {
        let node = Arc::clone(self.graph.node(id));
        let inputs = self.input_digests(id);
        let env = Arc::clone(&self.config.env);
        KeyInputs::new(
            &node.op,
            &node.args,
            inputs,
            &self.in_hand(id).sources,
            &env,
        )
    }

    fn parts(&mut self, id: NodeId, key_inputs: KeyInputs) -> StageParts {
        let cache = Arc::clone(&self.config.cache);
        let (inputs, side_outputs) = (self.inputs(id), self.side_outputs(id));
        let node = self.graph.node(id);
        let (content_paths, env) = (
            Arc::clone(&self.content_paths),
            Arc::clone(&self.config.env),
        );
        let (stop, events) = (self.config.stop.clone(), self.events.0.clone());
        let retry_bad = self.config.retry_bad;
        let in_hand = self.in_hand(id);
        StageParts {
            stage: node.name.clone(),
            args: node.args.clone(),
            attributes: Arc::clone(&node.attributes),
            inputs,
            sources: in_hand.sources.clone(),
            content_paths,
            side_outputs,
            key_inputs,
            scratch: cache.scratch(),
            cache,
            env,
            stop,
            events,
            retry_bad,
        }
    }

    /// The by-products of every stage above.
    fn side_outputs(&self, id: NodeId) -> BTreeMap<String, Vec<Artifact>> {
        if !self.any_sides {
            return BTreeMap::new();
        }
        side_outputs(self.graph, id, |above| {
            self.finished(above).map(Arc::as_ref)
        })
    }

    /// What makes a stage run: what differs from its last result, by field.
    fn why(&mut self, id: NodeId, now: &KeyInputs) -> Vec<String> {
        let last = self
            .ledger
            .get(&self.graph.node(id).name)
            .map(|last| last.key);
        let cache = Arc::clone(&self.config.cache);
        let repaired = self.stage(id).repairs > 0;
        why(&cache, last.as_ref(), now, repaired)
    }
}
