//! Stages that end without a result: retried, put back to wait while an input is rebuilt, or failed
//! together with everything downstream.

use std::time::{Duration, Instant};

use super::Run;
use super::state::State;
use crate::digest::Digest;
use crate::event::{Event, StageError, Status};
use crate::graph::NodeId;
use crate::op::OpError;

/// How often a stage is begun again in one run because its result, or what it needs, is corrupt. A
/// disk that corrupts what is written to it must not keep a run going for ever.
const REBUILDS_MAX: u32 = 3;
/// The wait for a stage whose record is on its way to the disk.
const COMMIT_POLL: Duration = Duration::from_millis(20);
/// The wait before the second attempt; each further one waits twice as long.
const BACKOFF: Duration = Duration::from_secs(1);

impl Run<'_, '_> {
    /// Handles a stage whose body gave an error.
    pub(super) fn on_failure(&mut self, id: NodeId, error: OpError, timed_out: bool) {
        self.in_flight(id).lease = None;
        match error {
            // A stage whose time is over is interrupted the same way as by a user; a user's wish to
            // stop wins.
            OpError::Interrupted if timed_out && !self.config.stop.is_requested() => {
                let limit = self.graph.node(id).attributes.timeout_ms.unwrap_or(0);
                let limit = blip_grammar::duration_text(limit);
                let what = format!("it exceeded its timeout of {limit}");
                let help = "raise @timeout, or find out why it is slow";
                self.retry_or_fail(id, &OpError::failed(what, help));
            }
            OpError::Interrupted => self.end_stage(id, Status::Interrupted, None),
            OpError::Corrupt(object) => self.rebuild(id, object),
            error => self.retry_or_fail(id, &error),
        }
    }

    /// Begins another attempt after a pause, if the stage has one left.
    pub(super) fn retry_or_fail(&mut self, id: NodeId, error: &OpError) {
        let node = self.graph.node(id);
        let retries = node.attributes.retries.unwrap_or(0);
        let name = node.name.clone();
        let stage = self.stage(id);
        if stage.attempt > retries {
            return self.fail(id, error);
        }
        let wait = BACKOFF * 2_u32.saturating_pow(stage.attempt - 1);
        stage.attempt += 1;
        stage.state.transition_to(State::Backoff);
        let attempt = stage.attempt;
        self.queues.push_timer(id, Instant::now() + wait);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.emit(Event::Retrying {
            stage: name,
            what: error.to_string(),
            attempt,
            wait_ms,
        });
    }

    /// A stage found an object corrupt: the stage that produced it runs again, then this one does.
    fn rebuild(&mut self, id: NodeId, object: Digest) {
        let producer = self.producer_of(&object);
        if let Some(producer) = producer
            && self.rebuilding.contains_key(&producer)
        {
            // Another stage has reported it already.
            self.wait_for_rebuild(id, producer);
            return;
        }
        if producer.is_some()
            && self.config.cache.objects.contains(&object).unwrap_or(false)
            && self.stage(id).rebuilds < REBUILDS_MAX
        {
            // Another stage reported it first, and it has been rebuilt since this one read it. To
            // rebuild it once more would not help.
            let stage = self.stage(id);
            stage.rebuilds += 1;
            stage.state.transition_to(State::Waiting);
            self.wake(id);
            return;
        }
        match producer {
            Some(producer) if self.stage(producer).state == State::Committing => {
                self.wait_for_commit(id);
            }
            Some(producer) if self.can_be_rebuilt(producer) => {
                self.start_rebuild(id, producer, &object);
            }
            _ => {
                let what = format!(
                    "object {} is missing or corrupt and could not be recomputed",
                    object.short()
                );
                let help = "check the disk of the cache, then run again";
                self.fail(id, &OpError::failed(what, help));
            }
        }
    }

    /// Lets a stage that found an object corrupt run again a moment later. The producer has run and
    /// is about to end; what it took over from the cache, as a map stage does with chunks that it
    /// knows, is rebuilt when it has.
    fn wait_for_commit(&mut self, id: NodeId) {
        self.stage(id).state.transition_to(State::Backoff);
        self.queues.push_timer(id, Instant::now() + COMMIT_POLL);
    }

    /// The stage whose result needs this object, as it is or as it was before its rebuild began.
    fn producer_of(&self, object: &Digest) -> Option<NodeId> {
        let needs_object = |id: &NodeId| {
            self.result(*id)
                .or_else(|| self.rebuilding.get(id))
                .is_some_and(|result| result.references(object))
        };
        self.wanted.iter().copied().find(needs_object)
    }

    /// A stage that is not at its end cannot begin again, whatever its rebuilds.
    fn can_be_rebuilt(&mut self, id: NodeId) -> bool {
        let stage = self.stage(id);
        stage.rebuilds < REBUILDS_MAX && matches!(stage.state, State::Ended(_))
    }

    /// Runs `producer` again for `id`, which reported `object` as corrupt.
    fn start_rebuild(&mut self, id: NodeId, producer: NodeId, object: &Digest) {
        let text = format!(
            "object {} is corrupt: `{}` recomputes it",
            object.short(),
            self.graph.node(producer).name
        );
        let reporter = self.graph.node(id).name.clone();
        self.emit(Event::Warning {
            stage: Some(reporter),
            text,
        });
        let stage = self.stage(producer);
        stage.rebuilds += 1;
        stage.downstream_notified = false;
        stage.state.transition_to(State::Ready);
        let key = stage.key;
        let lost = stage.result.take();
        self.queues.push_ready(producer);
        self.rebuilding.extend(lost.map(|lost| (producer, lost)));
        // Counted down again by `notify_downstream`. A consumer that runs or has ended does not
        // care; one that is ready or in a queue finds out in `has_missing_input`.
        for consumer in self.graph.consumers(producer) {
            if let Some(stage) = self.wanted_stage(consumer) {
                stage.open_inputs += 1;
            }
        }
        self.wait_for_rebuild(id, producer);
        // With its record the result would be found again instead of recomputed.
        if let Some(key) = key {
            self.results.remove(&key);
            if let Err(error) = self.config.cache.records.remove(&key) {
                self.fail(producer, &OpError::Disk(error));
            }
        }
    }

    /// Lets a stage wait until `producer`, whose rebuild has begun, has its result again.
    fn wait_for_rebuild(&mut self, id: NodeId, producer: NodeId) {
        // A direct consumer counts it as an open input already, and is notified as such. Others
        // read objects of stages further upstream: a chunk, or an image by way of side outputs.
        if !self.graph.consumers(producer).contains(&id) {
            self.rebuild_waiters.push((producer, id));
            self.stage(id).open_inputs += 1;
        }
        self.stage(id).state.transition_to(State::Waiting);
    }

    pub(super) fn fail(&mut self, id: NodeId, error: &OpError) {
        self.failed += 1;
        self.rebuilding.remove(&id);
        let error = StageError {
            what: error.to_string(),
            help: error.help(),
        };
        self.stage(id).result = None;
        self.end_stage(id, Status::Failed, Some(error));
        self.skip_downstream(id);
    }

    /// Whether a stage that was about to go on cannot: it waits for an input that is being rebuilt,
    /// or is skipped because a rebuild has failed.
    pub(super) fn has_missing_input(&mut self, id: NodeId) -> bool {
        let inputs = self.graph.inputs(id).iter().map(|(_, input)| *input);
        let missing: Vec<NodeId> = inputs
            .filter(|input| self.result(*input).is_none())
            .collect();
        if missing.is_empty() {
            return false;
        }
        let lost = missing
            .iter()
            .find(|input| !self.rebuilding.contains_key(*input));
        match lost {
            Some(input) => {
                let input = self.graph.node(*input).name.clone();
                self.end_stage(id, Status::Skipped, Some(skipped_because(&input)));
                self.skip_downstream(id);
            }
            // It was counted as an open input of this stage when its rebuild began.
            None => self.stage(id).state.transition_to(State::Waiting),
        }
        true
    }

    fn skip_downstream(&mut self, id: NodeId) {
        let mut without_result = vec![id];
        while let Some(id) = without_result.pop() {
            let input = self.graph.node(id).name.clone();
            for consumer in self.graph.consumers(id) {
                let is_waiting = self
                    .wanted_stage(consumer)
                    .is_some_and(|stage| stage.state == State::Waiting);
                if is_waiting {
                    self.end_stage(consumer, Status::Skipped, Some(skipped_because(&input)));
                    without_result.push(consumer);
                }
            }
        }
    }
}

fn skipped_because(input: &str) -> StageError {
    StageError {
        what: format!("its input `{input}` has no result"),
        help: format!("fix `{input}`, then run again"),
    }
}
