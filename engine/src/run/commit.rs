//! Commits: objects first, then the records that name them, many stages at a time.
//!
//! What finishes while a batch is being written goes into the next one, so a stage that finishes
//! alone is written at once, and a thousand that finish together share their syncs. A record
//! becomes visible only when everything it names is durable.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};

use super::state::State;
use super::worker::{Completion, Execution};
use super::{COMMITTING_MAX, Run};
use crate::cache::Cache;
use crate::cache::checkpoints::Checkpoints;
use crate::cache::disk::DiskError;
use crate::cache::records::Record;
use crate::cache::stage_result::StageResult;
use crate::digest::Digest;
use crate::event::{Event, Status};
use crate::graph::NodeId;
use crate::op::OpError;

/// A stage that has run and whose record is to be written.
pub(crate) struct Commit {
    pub(crate) id: NodeId,
    pub(crate) key: Digest,
    pub(crate) record: Record,
    /// The stage's training state, removed once the record is written.
    pub(crate) checkpoints: Checkpoints,
    /// Where the newest checkpoint goes instead, if the stage saves one for warm starts.
    pub(crate) warm_start: Option<Checkpoints>,
}

/// Writes commits until the owner closes the channel.
pub(crate) fn run_commits(
    cache: &Cache,
    commits: &Receiver<Commit>,
    completions: &Sender<Completion>,
) {
    for first in commits {
        let mut batch = vec![first];
        batch.extend(commits.try_iter().take(COMMITTING_MAX));
        let results = commit_batch(cache, &batch);
        if completions.send(Completion::Committed(results)).is_err() {
            return;
        }
    }
}

/// The result of each commit: a warning or none if its record is on disk.
fn commit_batch(cache: &Cache, batch: &[Commit]) -> Vec<(NodeId, Result<Option<String>, OpError>)> {
    // If the batch cannot be written, each commit is tried alone, so that one that cannot be
    // written does not fail the others.
    let batch_written = batch.len() > 1 && write_records(cache, batch).is_ok();
    let commit_one = |commit: &Commit| -> Result<Option<String>, OpError> {
        if !batch_written {
            write_records(cache, std::slice::from_ref(commit))?;
        }
        Ok(remove_training_state(commit))
    };
    batch
        .iter()
        .map(|commit| (commit.id, commit_one(commit)))
        .collect()
}

fn write_records(cache: &Cache, batch: &[Commit]) -> Result<(), DiskError> {
    // Objects before records: a crash in between leaves objects that nothing names, never a record
    // that names missing objects.
    cache.objects.flush()?;
    let records: Vec<(Digest, &Record)> = batch
        .iter()
        .map(|commit| (commit.key, &commit.record))
        .collect();
    cache.records.put(&records)
}

/// Removes what the record replaces, or moves it to where warm starts find it. The stage is
/// committed whatever happens here: a failure is a warning.
fn remove_training_state(commit: &Commit) -> Option<String> {
    let handed_over = commit
        .warm_start
        .as_ref()
        .map(|warm_start| commit.checkpoints.move_newest_to(warm_start));
    if let Some(Err(error)) = handed_over {
        tracing::warn!(%error, "could not save the final training state for warm starts");
    }
    let error = commit.checkpoints.clear().err()?;
    Some(format!("could not remove its checkpoints: {error}"))
}

impl Run<'_, '_> {
    /// Handles the end of a stage's body.
    pub(super) fn handle_execution(&mut self, id: NodeId, execution: Execution) {
        self.stage(id).took_ms = execution.took_ms;
        let in_flight = self.in_flight(id);
        in_flight.units = execution.units;
        if let Some(amount) = in_flight.taken.take() {
            self.free.give_back(&amount);
        }
        let record = match execution.result {
            Ok(record) => record,
            Err(error) => return self.on_failure(id, error, execution.timed_out),
        };
        if self.violates_locked_output(id, &record.output) {
            return;
        }
        let key = self
            .stage(id)
            .key
            .expect("a stage that ran has been probed");
        let result = Arc::new(StageResult::from_record(key, &record));
        self.any_side_outputs |= !result.side_outputs.is_empty();
        let stage = self.stage(id);
        stage.result = Some(result);
        stage.state.transition_to(State::Committing);
        self.send_commit(id, key, record, execution.warm_start);
        // Before the record is on disk: the result's objects are in memory, and a sync for every
        // stage of a chain would cost far more than most stages do.
        self.notify_downstream(id, true);
    }

    fn send_commit(
        &mut self,
        id: NodeId,
        key: Digest,
        record: Record,
        warm_start: Option<(Digest, u64)>,
    ) {
        self.committing += 1;
        let cache = &self.config.cache;
        let commit = Commit {
            id,
            key,
            record,
            checkpoints: cache.checkpoints(&key),
            warm_start: warm_start.map(|(rest, value)| cache.warm_start(&rest, value)),
        };
        let (_, commits) = self
            .channels
            .as_ref()
            .expect("commits are handed out only while their thread lives");
        commits
            .send(commit)
            .expect("the thread lives until the owner drops the channel");
    }

    /// Handles a record that has been written, or could not be.
    pub(super) fn handle_commit(&mut self, id: NodeId, result: Result<Option<String>, OpError>) {
        self.committing -= 1;
        self.in_flight(id).lease = None;
        match result {
            Ok(warning) => {
                if let Some(text) = warning {
                    let stage = Some(self.graph.node(id).name.clone());
                    self.emit(Event::Warning { stage, text });
                }
                self.end_stage(id, Status::Ran, None);
            }
            // Downstream stages may go on with what they have: the object is in memory.
            Err(error) => self.retry_or_fail(id, &error),
        }
    }
}
