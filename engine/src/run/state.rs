//! The states of a stage in a run, and the only transitions between them.

use crate::event::Status;

/// Where a stage is in a run. Each variant says what holds as long as the stage is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// At least one input has no result yet, or is being rebuilt.
    Waiting,
    /// All inputs have results and the stage is in the ready queue; its key is not computed for
    /// these inputs.
    Ready,
    /// A worker computes its key and looks it up; it is in no queue.
    Probing,
    /// Its key is known and has no usable result in the cache; it holds neither lease nor resources
    /// and is in the queue for cores, a GPU or memory.
    WaitingForResources,
    /// Another process, or another stage of this run with the same key, holds the lease of its key;
    /// it holds no resources and a timer brings it back.
    WaitingForLease,
    /// An attempt failed and the next one has been announced; it holds neither lease nor resources
    /// and a timer brings it back.
    Backoff,
    /// A worker runs its body; its resources are taken and its lease is held.
    Running,
    /// It has a result, which downstream stages may use; its lease is held until its record is on
    /// disk.
    Committing,
    /// `StageFinished` has been sent; it has a result exactly if the status is `Ran`, `Reused` or
    /// `UpToDate`.
    Ended(Status),
}

impl State {
    /// Moves to `next`.
    ///
    /// # Panics
    /// On a transition that does not exist: every later decision of the run would be wrong.
    pub(crate) fn transition_to(&mut self, next: State) {
        let legal = self.may_become(next);
        assert!(legal, "a stage cannot go from {self:?} to {next:?}");
        *self = next;
    }

    fn may_become(self, next: State) -> bool {
        use State::{
            Backoff, Committing, Ended, Probing, Ready, Running, Waiting, WaitingForLease,
            WaitingForResources,
        };
        use Status::{Failed, Interrupted, Ran, Reused, Skipped, UpToDate};
        // A stage goes back to `Waiting` when an input that it had turns out to be corrupt and is
        // rebuilt. That is noticed at the latest when the stage reads it, thus while it runs.
        match self {
            Waiting => matches!(next, Ready | Ended(Skipped | Interrupted)),
            Ready => matches!(
                next,
                Probing | Waiting | Ended(Failed | Skipped | Interrupted)
            ),
            Probing => matches!(
                next,
                WaitingForResources | Waiting | Ended(Reused | UpToDate | Failed | Interrupted)
            ),
            // To `Ready` when an input was rebuilt with other bytes meanwhile: the key is stale. To
            // `Reused` or `UpToDate` when another process has computed the result meanwhile.
            WaitingForResources => matches!(
                next,
                Running
                    | WaitingForLease
                    | Ready
                    | Waiting
                    | Ended(Reused | UpToDate | Failed | Skipped | Interrupted)
            ),
            WaitingForLease | Backoff => {
                matches!(next, WaitingForResources | Ended(Interrupted))
            }
            Running => matches!(
                next,
                Committing | Backoff | Waiting | Ended(Failed | Interrupted)
            ),
            // A record that cannot be written is a failed attempt like any other.
            Committing => matches!(next, Backoff | Ended(Ran | Failed)),
            // A result that turned out to be corrupt is rebuilt.
            Ended(Ran | Reused | UpToDate) => next == Ready,
            Ended(Failed | Skipped | Interrupted) => false,
        }
    }
}
