//! Commits: objects first, then the records that name them, many stages at a time.
//!
//! Whoever finishes while a group is being written is in the next one, so a stage that comes alone
//! is written at once, and a thousand that come together share their syncs. A record becomes
//! visible only when everything it names is durable.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};

use super::state::State;
use super::worker::{Answer, Ran};
use super::{COMMITTING_MAX, Run};
use crate::cache::Cache;
use crate::cache::checkpoints::Checkpoints;
use crate::cache::disk::DiskError;
use crate::cache::ledger::StageResult;
use crate::cache::records::Record;
use crate::digest::Digest;
use crate::event::{Event, Status};
use crate::graph::NodeId;
use crate::op::OpError;

/// A stage that has run and is to be known from now on.
pub(crate) struct Commit {
    pub(crate) id: NodeId,
    pub(crate) key: Digest,
    pub(crate) record: Record,
    /// The training state of the stage, which is removed.
    pub(crate) checkpoints: Checkpoints,
    /// Where the newest of it is kept, if it is.
    pub(crate) growth: Option<Checkpoints>,
}

/// Commits until there is nothing more to commit.
pub(crate) fn work(cache: &Cache, commits: &Receiver<Commit>, answers: &Sender<Answer>) {
    for first in commits {
        let mut group = vec![first];
        group.extend(commits.try_iter().take(COMMITTING_MAX));
        // Where a group cannot be written, each is tried by itself: one must not take the others
        // with it.
        let together = group.len() > 1 && write(cache, &group).is_ok();
        let done = |commit: &Commit| {
            if together {
                Ok(clear(commit))
            } else {
                alone(cache, commit)
            }
        };
        let results = group
            .iter()
            .map(|commit| (commit.id, done(commit)))
            .collect();
        if answers.send(Answer::Committed(results)).is_err() {
            return;
        }
    }
}

fn write(cache: &Cache, group: &[Commit]) -> Result<(), DiskError> {
    cache.objects.flush()?;
    let records: Vec<(Digest, &Record)> = group
        .iter()
        .map(|commit| (commit.key, &commit.record))
        .collect();
    cache.records.put(&records)
}

fn alone(cache: &Cache, commit: &Commit) -> Result<Option<String>, OpError> {
    match write(cache, std::slice::from_ref(commit)) {
        Ok(()) => Ok(clear(commit)),
        Err(error) => Err(OpError::Disk(error)),
    }
}

/// The stage is known, whatever becomes of its training state. What there is to say about that is
/// the answer.
fn clear(commit: &Commit) -> Option<String> {
    if let Some(Err(error)) = commit
        .growth
        .as_ref()
        .map(|growth| commit.checkpoints.hand_over(growth))
    {
        tracing::warn!(%error, "a final training state could not be kept");
    }
    commit
        .checkpoints
        .clear()
        .err()
        .map(|error| format!("its checkpoints could not be removed: {error}"))
}

impl Run<'_, '_> {
    pub(super) fn ran(&mut self, id: NodeId, ran: Ran) {
        self.stage(id).took_ms = ran.took_ms;
        let in_hand = self.in_hand(id);
        in_hand.units = ran.units;
        if let Some(amount) = in_hand.taken.take() {
            self.free.give(&amount);
        }
        let record = match ran.result {
            Ok(record) => record,
            Err(error) => return self.ran_in_vain(id, error, ran.timed_out),
        };
        if self.deviates_in(id, &record.output) {
            return;
        }
        let key = self
            .stage(id)
            .key
            .expect("a stage that ran has been probed");
        let finished = Arc::new(StageResult::of(key, &record));
        self.any_sides |= !finished.side_outputs.is_empty();
        let stage = self.stage(id);
        stage.finished = Some(finished);
        stage.state.go(State::Committing);
        self.committing += 1;
        let cache = &self.config.cache;
        let checkpoints = cache.checkpoints(&key);
        let growth = ran.grows.map(|(rest, value)| cache.growth(&rest, value));
        let (_, commits) = self
            .channels
            .as_ref()
            .expect("commits are handed out only while their thread lives");
        commits
            .send(Commit {
                id,
                key,
                record,
                checkpoints,
                growth,
            })
            .expect("the thread lives until the owner lets go of it");
        self.tell_below(id, true);
    }

    pub(super) fn committed(&mut self, id: NodeId, result: Result<Option<String>, OpError>) {
        self.committing -= 1;
        self.in_hand(id).lease = None;
        match result {
            Ok(warning) => {
                if let Some(text) = warning {
                    let stage = Some(self.graph.node(id).name.clone());
                    self.emit(Event::Warning { stage, text });
                }
                if let Some(finished) = self.stage(id).finished.clone() {
                    self.remember(id, finished);
                }
                self.end_stage(id, Status::Ran, None);
            }
            // Those below it may go on with what they have: the object is in memory.
            Err(error) => self.attempt_again(id, &error),
        }
    }
}
