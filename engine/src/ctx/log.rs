//! What a stage reports while it runs: progress, numbers, rejected items.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::StageCtx;
use crate::cache::records::RejectedItem;
use crate::digest::Digest;
use crate::event::{Event, UnitCounts};

/// Progress of a stage is passed on at most this often: a listener draws it, and a stage may report
/// thousands of times a second.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What a stage leaves behind besides its result; most of it goes into its record.
#[derive(Debug, Default)]
pub(crate) struct StageLog {
    /// Everything that was stored, in order, with duplicates.
    pub(crate) objects: Vec<Digest>,
    pub(crate) curves: Vec<(u64, Vec<(String, f64)>)>,
    pub(crate) rejected: Vec<RejectedItem>,
    /// Only of map stages.
    pub(crate) units: Option<UnitCounts>,
    /// Where the final training state is kept for warm starts: the key without the argument, and
    /// the argument's value.
    pub(crate) warm_start: Option<(Digest, u64)>,
    pub(crate) notes: Vec<String>,
    last_progress: Option<Instant>,
}

impl StageCtx {
    /// Reports that the stage goes on from a checkpoint that has `done` of the total.
    pub fn resumed(&self, done: u64, total: u64, unit: &str) {
        self.send(Event::Resumed {
            stage: self.parts.stage.clone(),
            done,
            total,
            unit: unit.to_owned(),
        });
    }

    /// Reports how far the stage is; `unit` names what is counted: "steps", "images".
    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        let now = Instant::now();
        let mut log = self.log();
        let is_recent = log
            .last_progress
            .is_some_and(|last| now.duration_since(last) < PROGRESS_INTERVAL);
        // The end is always reported, so that no listener stops at 99 %.
        if is_recent && done < total {
            return;
        }
        log.last_progress = Some(now);
        drop(log);
        self.send(Event::Progress {
            stage: self.parts.stage.clone(),
            done,
            total,
            unit: unit.to_owned(),
        });
    }

    /// Reports the numbers of a step; they become the stage's curves.
    pub fn metric(&self, step: u64, values: &[(&str, f64)]) {
        let values: Vec<(String, f64)> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        self.log().curves.push((step, values.clone()));
        self.send(Event::Metric {
            stage: self.parts.stage.clone(),
            step,
            values,
        });
    }

    /// The curves so far. A training stage saves them with its state, so that a resumed one has the
    /// same.
    pub fn curves(&self) -> Vec<(u64, Vec<(String, f64)>)> {
        self.log().curves.clone()
    }

    /// Replaces the curves by those of a checkpoint.
    pub fn restore_curves(&self, curves: Vec<(u64, Vec<(String, f64)>)>) {
        self.log().curves = curves;
    }

    /// Reports an item that cannot be used.
    pub fn reject(&self, item: &str, reason: &str) {
        self.log().rejected.push(RejectedItem {
            item: item.to_owned(),
            reason: reason.to_owned(),
        });
        self.send(Event::Rejected {
            stage: self.parts.stage.clone(),
            item: item.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Why the first item was rejected.
    pub(crate) fn first_reason(&self) -> String {
        let log = self.log();
        log.rejected
            .first()
            .map_or(String::new(), |first| first.reason.clone())
    }

    /// Reports something that a user should know at once.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(Event::Warning {
            stage: Some(self.parts.stage.clone()),
            text: text.into(),
        });
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, StageLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, event: Event) {
        // The receiver is gone only for contexts without listeners, and when the run is over.
        let _ = self.parts.events.send(event);
    }
}
