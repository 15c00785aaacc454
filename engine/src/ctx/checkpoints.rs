//! The training state of a stage: saved now and then, found again after a kill, and kept for stages
//! that train longer.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{StageCtx, StageParts, StopSignal};
use crate::cache::checkpoints::{Checkpoint, CheckpointError, Checkpoints};
use crate::op::OpError;

/// Without `@checkpoint`, training state is saved this often.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// The training state of a stage, by the stage's key.
#[derive(Debug)]
pub struct StageCheckpoints {
    checkpoints: Checkpoints,
    /// Takes precedence over `interval`.
    every_steps: Option<u64>,
    interval: Duration,
    last_saved: Mutex<Instant>,
    stop: StopSignal,
}

impl StageCheckpoints {
    pub(super) fn new(parts: &StageParts) -> Self {
        let attributes = &parts.attributes;
        let interval = attributes
            .checkpoint_every_ms
            .map_or(CHECKPOINT_INTERVAL, Duration::from_millis);
        Self {
            checkpoints: parts.cache.checkpoints(&parts.key_inputs.hash()),
            every_steps: attributes.checkpoint_every_steps,
            interval,
            last_saved: Mutex::new(Instant::now()),
            stop: parts.stop.clone(),
        }
    }

    /// The newest state that is complete, if there is one.
    ///
    /// # Errors
    /// [`OpError::Disk`] when it cannot be read.
    pub fn latest(&self) -> Result<Option<Checkpoint>, OpError> {
        Ok(self.checkpoints.latest()?)
    }

    /// Whether to save after `step` steps: the interval is over, or the run is asked to stop.
    pub fn due(&self, step: u64) -> bool {
        let is_over = match self.every_steps {
            Some(every) => step.is_multiple_of(every.max(1)),
            None => {
                let last_saved = self.last_saved.lock();
                let last_saved = last_saved.unwrap_or_else(PoisonError::into_inner);
                last_saved.elapsed() >= self.interval
            }
        };
        is_over || self.stop.is_requested()
    }

    /// Saves the state after `step` steps: `write` puts files into the folder it is given.
    ///
    /// # Errors
    /// [`OpError::Disk`], or what `write` gives.
    pub fn save(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        self.checkpoints
            .save(step, write)
            .map_err(checkpoint_error)?;
        let mut last_saved = self
            .last_saved
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last_saved = Instant::now();
        Ok(())
    }
}

fn checkpoint_error(error: CheckpointError<OpError>) -> OpError {
    match error {
        CheckpointError::Disk(error) => OpError::Disk(error),
        CheckpointError::Writer(error) => error,
    }
}

impl StageCtx {
    /// The stage's training state.
    pub fn checkpoints(&self) -> &StageCheckpoints {
        &self.checkpoints
    }

    /// The final training state of a stage that differs from this one only in a smaller value of
    /// `argument`: the largest such value for which [`StageCtx::save_warm_start`] kept one. For ops
    /// whose steps do not depend on how many will follow: resuming from there gives the bytes of a
    /// run from the start. A checkpoint of this very stage is newer: ask for it first.
    ///
    /// # Errors
    /// [`OpError::Bug`] when `argument` is not a count, [`OpError::Disk`] when a state cannot be
    /// read.
    pub fn warm_start(&self, argument: &str) -> Result<Option<Checkpoint>, OpError> {
        let value = self.parts.args.count(argument)?;
        let rest = self.parts.key_inputs.warm_start_key(argument);
        let cache = &self.parts.cache;
        let saved = Checkpoints::warm_start_values(cache.disk(), cache.folder(), &rest)?;
        let smaller = saved.into_iter().filter(|saved| *saved < value);
        for saved in smaller.rev() {
            // One that is corrupt is passed over for the next smaller one.
            if let Some(checkpoint) = cache.warm_start(&rest, saved).latest()? {
                let note = format!("resumed from {argument} = {saved}");
                self.log().notes.push(note);
                return Ok(Some(checkpoint));
            }
        }
        Ok(None)
    }

    /// Keeps the newest checkpoint when the stage commits, for [`StageCtx::warm_start`] of a stage
    /// with a larger value of `argument`. It has to be the final state: save one after the last
    /// step.
    ///
    /// # Errors
    /// [`OpError::Bug`] when `argument` is not a count.
    pub fn save_warm_start(&self, argument: &str) -> Result<(), OpError> {
        let value = self.parts.args.count(argument)?;
        let rest = self.parts.key_inputs.warm_start_key(argument);
        self.log().warm_start = Some((rest, value));
        Ok(())
    }
}
