//! A stage that ran in vain: tried again, made ready by repairing what it needs, or failed together
//! with what needs it.

use std::time::{Duration, Instant};

use super::state::State;
use super::{Run, Stage};
use crate::digest::Digest;
use crate::event::{Event, StageError, Status};
use crate::graph::NodeId;
use crate::op::OpError;

/// How often a stage is begun again in one run because of damage to its result, or to what it
/// needs.
const REPAIRS_MAX: u32 = 3;
/// The wait before the second attempt; each further one waits twice as long.
const BACKOFF: Duration = Duration::from_secs(1);

impl Run<'_, '_> {
    pub(super) fn ran_in_vain(&mut self, id: NodeId, error: OpError, timed_out: bool) {
        self.in_hand(id).lease = None;
        match error {
            OpError::Interrupted if timed_out && !self.config.stop.is_requested() => {
                let limit = self.graph.node(id).attributes.timeout_ms.unwrap_or(0);
                let what = format!(
                    "it took longer than its timeout of {}",
                    blip_grammar::duration_text(limit)
                );
                self.attempt_again(
                    id,
                    &OpError::failed(what, "raise @timeout, or look why it is slow"),
                );
            }
            OpError::Interrupted => self.end_stage(id, Status::Interrupted, None),
            OpError::Damaged(object) => self.repair(id, object),
            error => self.attempt_again(id, &error),
        }
    }

    /// A failure: another attempt if the stage has one left.
    pub(super) fn attempt_again(&mut self, id: NodeId, error: &OpError) {
        let retries = self.graph.node(id).attributes.retries.unwrap_or(0);
        let name = self.graph.node(id).name.clone();
        let stage = self.stage(id);
        if stage.attempt > retries {
            return self.fail(id, error);
        }
        let wait = BACKOFF * 2_u32.saturating_pow(stage.attempt - 1);
        stage.attempt += 1;
        stage.state.go(State::Delayed);
        let attempt = stage.attempt;
        self.queues.delay(id, Instant::now() + wait);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.emit(Event::Retrying {
            stage: name,
            what: error.to_string(),
            attempt,
            wait_ms,
        });
    }

    /// An object that a stage needs is damaged: whoever made it makes it again, then the stage has
    /// its turn.
    fn repair(&mut self, id: NodeId, object: Digest) {
        let made_it = |producer: &&NodeId| {
            self.finished(**producer)
                .or_else(|| self.mending.get(*producer))
                .is_some_and(|made| made.needs(&object))
        };
        let producer = self.wanted.iter().find(made_it).copied();
        if let Some(producer) = producer.filter(|producer| self.mending.contains_key(producer)) {
            // Another stage has complained already.
            self.await_repair(id, producer);
            return;
        }
        if producer.is_some()
            && self.config.cache.objects.contains(&object)
            && self.stage(id).repairs < REPAIRS_MAX
        {
            // Another stage complained first, and it has been made again since this one read it.
            let stage = self.stage(id);
            stage.repairs += 1;
            stage.state.go(State::Waiting);
            self.wake(id);
            return;
        }
        let able =
            |stage: &Stage| stage.repairs < REPAIRS_MAX && matches!(stage.state, State::Ended(_));
        let Some(producer) = producer.filter(|producer| able(self.stage(*producer))) else {
            let what = format!(
                "the object {} is missing or damaged and could not be made again",
                object.short()
            );
            return self.fail(
                id,
                &OpError::failed(what, "check the disk of the cache, then run again"),
            );
        };
        let text = format!(
            "the object {} was damaged: `{}` makes it again",
            object.short(),
            self.graph.node(producer).name
        );
        self.emit(Event::Warning {
            stage: Some(self.graph.node(id).name.clone()),
            text,
        });
        let stage = self.stage(producer);
        stage.repairs += 1;
        stage.told = false;
        stage.state.go(State::Ready);
        let (key, made) = (stage.key, stage.finished.take());
        self.queues.ready(producer);
        self.mending.extend(made.map(|made| (producer, made)));
        for consumer in self.graph.consumers(producer) {
            if let Some(stage) = self
                .stages
                .get_mut(consumer.index())
                .and_then(Option::as_mut)
            {
                stage.inputs_open += 1;
            }
        }
        self.await_repair(id, producer);
        if let Some(key) = key {
            self.known.remove(&key);
            if let Err(error) = self.config.cache.records.remove(&key) {
                self.fail(producer, &OpError::Disk(error));
            }
        }
    }

    /// The stage waits until `producer`, which is at it, has made its result again.
    fn await_repair(&mut self, id: NodeId, producer: NodeId) {
        if !self.graph.consumers(producer).contains(&id) {
            self.repairs.push((producer, id));
            self.stage(id).inputs_open += 1;
        }
        self.stage(id).state.go(State::Waiting);
    }

    pub(super) fn fail(&mut self, id: NodeId, error: &OpError) {
        self.failed = true;
        self.mending.remove(&id);
        let error = StageError {
            what: error.to_string(),
            help: error.help(),
        };
        self.stage(id).finished = None;
        self.end_stage(id, Status::Failed, Some(error));
        self.skip_below(id);
    }

    /// Whether a stage that was about to go on has to wait for a result that is made again, or ends
    /// since one it needs turned out to have none after all.
    pub(super) fn lacks_input(&mut self, id: NodeId) -> bool {
        let inputs = self.graph.inputs(id).iter().map(|(_, input)| *input);
        let lacking: Vec<NodeId> = inputs
            .filter(|input| self.finished(*input).is_none())
            .collect();
        if lacking.is_empty() {
            return false;
        }
        match lacking
            .iter()
            .find(|input| !self.mending.contains_key(*input))
        {
            Some(input) => {
                let because = self.graph.node(*input).name.clone();
                self.end_stage(id, Status::Skipped, Some(skipped(&because)));
                self.skip_below(id);
            }
            // It was counted as an open input of this stage when it began to be made again.
            None => self.stage(id).state.go(State::Waiting),
        }
        true
    }

    fn skip_below(&mut self, id: NodeId) {
        let mut without_result = vec![id];
        while let Some(id) = without_result.pop() {
            let because = self.graph.node(id).name.clone();
            for consumer in self.graph.consumers(id) {
                let stage = self.stages.get(consumer.index()).and_then(Option::as_ref);
                if stage.is_none_or(|stage| stage.state != State::Waiting) {
                    continue;
                }
                self.end_stage(consumer, Status::Skipped, Some(skipped(&because)));
                without_result.push(consumer);
            }
        }
    }
}

fn skipped(because: &str) -> StageError {
    let what = format!("`{because}`, which it needs, has no result");
    StageError {
        what,
        help: format!("mend `{because}` and run again"),
    }
}
