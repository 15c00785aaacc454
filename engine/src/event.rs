//! Everything that can happen in a run: one closed list, sent to listeners and written to
//! `runs/<id>/events.jsonl`.

mod bus;
mod log;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use self::bus::EventBus;
pub use self::bus::Listener;
pub(crate) use self::log::{LOG_NAME, LogWriter};
use crate::digest::Digest;

/// Something that happened. The names of variants and fields are the format of the event log: a
/// name that changes keeps the old one as an alias, so that logs of older versions can be read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run waits for another process that has the cache, or computes the result of a stage;
    /// sent once for each.
    Waiting {
        /// The stage whose result it computes, which this run will share; nothing when it is about
        /// the whole cache.
        stage: Option<Arc<str>>,
        /// The other process.
        pid: u32,
        /// Its machine.
        host: String,
        /// Seconds since 1970.
        since: u64,
    },
    /// The run has the cache and begins.
    RunStarted {
        /// The run's id; later runs have later ids.
        run: String,
        workflow: String,
        /// The stages it wants, in an order in which they can run.
        stages: Vec<Arc<str>>,
        /// Names and effective values.
        params: Vec<(String, String)>,
        /// This process.
        pid: u32,
    },
    /// Something about the run as a whole, or about a stage.
    Warning {
        stage: Option<Arc<str>>,
        text: String,
    },
    /// A stage has no usable result and begins to run.
    StageStarted {
        stage: Arc<str>,
        op: Cow<'static, str>,
        /// What changed since its last result, by field.
        why: Vec<String>,
    },
    /// A stage goes on from a checkpoint.
    Resumed {
        stage: Arc<str>,
        /// Of the total, those that are in the checkpoint.
        done: u64,
        total: u64,
        /// What is counted: "steps".
        unit: String,
    },
    /// How far a stage is.
    Progress {
        stage: Arc<str>,
        done: u64,
        total: u64,
        /// What is counted: "steps", "images".
        unit: String,
    },
    /// Numbers of a step of a training stage.
    Metric {
        stage: Arc<str>,
        step: u64,
        values: Vec<(String, f64)>,
    },
    /// An item that could not be used.
    #[serde(alias = "quarantined")]
    Rejected {
        stage: Arc<str>,
        item: String,
        reason: String,
    },
    /// A stage failed and will be tried again.
    Retrying {
        stage: Arc<str>,
        /// The error of the attempt that failed.
        what: String,
        /// The attempt that comes, from 2.
        attempt: u32,
        /// The time until it begins.
        wait_ms: u64,
    },
    StageFinished(Arc<StageEnd>),
    /// An export is in place.
    Exported {
        /// The binding.
        stage: Arc<str>,
        format: String,
        path: String,
        /// False if it was there already.
        written: bool,
    },
    ExportFailed {
        /// The binding.
        stage: Arc<str>,
        format: String,
        path: String,
        error: StageError,
    },
    RunFinished {
        outcome: Outcome,
        took_ms: u64,
    },
}

impl Event {
    /// The stage it is about; for an export, the binding exported.
    pub fn stage(&self) -> Option<&str> {
        match self {
            Event::RunStarted { .. } | Event::RunFinished { .. } => None,
            Event::Waiting { stage, .. } | Event::Warning { stage, .. } => stage.as_deref(),
            Event::StageFinished(end) => Some(&end.stage),
            Event::StageStarted { stage, .. }
            | Event::Resumed { stage, .. }
            | Event::Progress { stage, .. }
            | Event::Metric { stage, .. }
            | Event::Rejected { stage, .. }
            | Event::Retrying { stage, .. }
            | Event::Exported { stage, .. }
            | Event::ExportFailed { stage, .. } => Some(stage),
        }
    }
}

/// How a stage ended, and its result if it has one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StageEnd {
    pub stage: Arc<str>,
    pub op: Cow<'static, str>,
    pub status: Status,
    /// Its key, if all of its inputs had results.
    pub key: Option<Digest>,
    pub output: Option<Digest>,
    /// The result's type.
    pub ty: Cow<'static, str>,
    /// The number of items in the result, for types that have items.
    pub count: Option<u64>,
    /// Only of map stages that ran.
    pub units: Option<Box<UnitCounts>>,
    pub metrics: Box<[(String, f64)]>,
    /// What a reader should know about the result: "17 duplicates dropped".
    pub notes: Box<[String]>,
    /// The number of items that could not be used.
    #[serde(alias = "quarantined")]
    pub rejected: u64,
    /// In this run: little for a result that was reused.
    pub took_ms: u64,
    /// Why it failed or was skipped.
    pub error: Option<Box<StageError>>,
}

/// Why a stage has no result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageError {
    /// What is wrong, and where.
    pub what: String,
    /// What the user can do.
    pub help: String,
}

/// Units of work of a map stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UnitCounts {
    pub total: u64,
    /// Found in the cache.
    pub reused: u64,
    /// Computed in this run.
    pub computed: u64,
    /// Of the total, those that were rejected.
    pub bad: u64,
}

/// How a stage ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It ran and has a result.
    Ran,
    /// Its result was in the cache, and nothing upstream ran.
    Reused,
    /// Something upstream ran and gave the same bytes as before, so its result was in the cache
    /// (early cutoff).
    #[serde(alias = "cut_off")]
    UpToDate,
    /// It ran, or could not, and has no result.
    Failed,
    /// An input has no result.
    Skipped,
    /// The run was asked to stop before the stage ended.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every wanted stage has a result and every wanted export is written.
    Done,
    /// At least one stage or export failed.
    Failed,
    /// It was asked to stop.
    Interrupted,
}

/// A line of the event log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LogEntry {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    #[serde(flatten)]
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_older_versions_are_read() {
        let line = r#"{"at_ms":3,"event":"quarantined","stage":"web","item":"a","reason":"b"}"#;
        let entry: LogEntry = serde_json::from_str(line).unwrap();
        let event = Event::Rejected {
            stage: "web".into(),
            item: "a".to_owned(),
            reason: "b".to_owned(),
        };
        assert_eq!(entry, LogEntry { at_ms: 3, event });
        let line = r#"{"at_ms":3,"event":"stage_finished","stage":"web","op":"read",
            "status":"cut_off","key":null,"output":null,"ty":"Pairs","count":null,"units":null,
            "metrics":[],"notes":[],"quarantined":2,"took_ms":1,"error":null}"#;
        let entry: LogEntry = serde_json::from_str(line).unwrap();
        let Event::StageFinished(end) = entry.event else {
            panic!("{entry:?}")
        };
        assert_eq!((end.status, end.rejected), (Status::UpToDate, 2));
    }
}
