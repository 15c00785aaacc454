//! The states of a stage in a run, and the only ways from one to another.

use crate::event::Status;

/// Where a stage is. A stage is in exactly one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Some of its inputs have no result yet.
    Waiting,
    /// All inputs have results; it is not known whether its own is in the cache.
    Ready,
    /// A worker makes its key and looks it up.
    Probing,
    /// Its result is not in the cache; it waits for cores, a GPU or memory.
    Queued,
    /// Another process, or another stage of this run with the same key, makes its result.
    Elsewhere,
    /// It failed and waits for its next attempt.
    Delayed,
    /// A worker runs it and its resources are taken.
    Running,
    /// It has a result, which those below it may use; its record is on the way to the disk.
    Committing,
    /// It is at its end, with or without a result.
    Ended(Status),
}

impl State {
    /// Moves to `next`.
    ///
    /// # Panics
    /// When there is no such move: the run would be wrong from here on.
    pub(crate) fn go(&mut self, next: State) {
        use State::{
            Committing, Delayed, Elsewhere, Ended, Probing, Queued, Ready, Running, Waiting,
        };
        let legal = match (*self, next) {
            (Waiting, Ready | Ended(Status::Skipped | Status::Interrupted))
            | (
                Ready,
                Probing | Waiting | Ended(Status::Failed | Status::Skipped | Status::Interrupted),
            )
            | (
                Probing,
                Queued
                | Waiting
                | Ended(Status::Reused | Status::UpToDate | Status::Failed | Status::Interrupted),
            )
            | (
                Queued,
                Running
                | Elsewhere
                | Ready
                | Waiting
                | Ended(
                    Status::Reused
                    | Status::UpToDate
                    | Status::Failed
                    | Status::Skipped
                    | Status::Interrupted,
                ),
            )
            | (Elsewhere, Queued | Ended(Status::Interrupted))
            | (Delayed, Queued | Ended(Status::Interrupted))
            | (
                Running,
                Committing | Delayed | Waiting | Ended(Status::Failed | Status::Interrupted),
            )
            | (Committing, Delayed | Ended(Status::Ran | Status::Failed)) => true,
            // A result that turned out to be damaged is made again.
            (Ended(Status::Ran | Status::Reused | Status::UpToDate), Ready) => true,
            _ => false,
        };
        assert!(legal, "a stage cannot go from {self:?} to {next:?}");
        *self = next;
    }
}
