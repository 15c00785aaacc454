//! Everything that can happen in a run: one closed list, sent to listeners and kept in
//! `runs/<id>/events.jsonl`.

mod log;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub(crate) use self::log::{LOG_NAME, LogWriter};
use crate::digest::Digest;

/// Something that happened. The names of variants and fields are the format of the event log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Another process has the cache, or makes the result of a stage; told once for each.
    Waiting {
        /// The stage whose result it makes, which this run will share; nothing when it is about the
        /// whole cache.
        stage: Option<Arc<str>>,
        /// Its process.
        pid: u32,
        /// Its machine.
        host: String,
        /// Since when, in seconds since 1970.
        since: u64,
    },
    /// The run has the cache and begins.
    RunStarted {
        /// Its id; later runs have later ids.
        run: String,
        /// The workflow's name.
        workflow: String,
        /// The stages it wants, in an order in which they can run.
        stages: Vec<Arc<str>>,
        /// The params as they are.
        params: Vec<(String, String)>,
        /// This process.
        pid: u32,
    },
    /// Something about the run as a whole, or about a stage.
    Warning {
        /// The stage, if it is about one.
        stage: Option<Arc<str>>,
        /// What there is to say.
        text: String,
    },
    /// A stage is not known and begins to run.
    StageStarted {
        /// The stage.
        stage: Arc<str>,
        /// Its op.
        op: Cow<'static, str>,
        /// What makes it run.
        why: Vec<String>,
    },
    /// How far a stage is.
    Progress {
        /// The stage.
        stage: Arc<str>,
        /// Units of work done.
        done: u64,
        /// Units of work there are.
        total: u64,
        /// What a unit is: "steps", "images".
        unit: String,
    },
    /// Numbers of a step of a training stage.
    Metric {
        /// The stage.
        stage: Arc<str>,
        /// The step.
        step: u64,
        /// Names and values.
        values: Vec<(String, f64)>,
    },
    /// An item that could not be used.
    #[serde(alias = "rejected")]
    Rejected {
        /// The stage.
        stage: Arc<str>,
        /// The item.
        item: String,
        /// Why.
        reason: String,
    },
    /// A stage failed and will be tried again.
    Retrying {
        /// The stage.
        stage: Arc<str>,
        /// What went wrong.
        what: String,
        /// The attempt that comes, from 2.
        attempt: u32,
        /// The time until then.
        wait_ms: u64,
    },
    /// A stage is at its end.
    StageFinished(Arc<StageEnd>),
    /// An export was written, or is as it was.
    Exported {
        /// The binding.
        stage: Arc<str>,
        /// The format.
        format: String,
        /// Where.
        path: String,
        /// Whether it had to be written.
        written: bool,
    },
    /// An export could not be written.
    ExportFailed {
        /// The binding.
        stage: Arc<str>,
        /// The format.
        format: String,
        /// Where.
        path: String,
        /// Why.
        error: StageError,
    },
    /// The run is at its end.
    RunFinished {
        /// How it ended.
        outcome: Outcome,
        /// How long it took.
        took_ms: u64,
    },
}

impl Event {
    /// The stage it is about; an export is about the binding exported.
    pub fn stage(&self) -> Option<&str> {
        match self {
            Event::RunStarted { .. } | Event::RunFinished { .. } => None,
            Event::Waiting { stage, .. } | Event::Warning { stage, .. } => stage.as_deref(),
            Event::StageFinished(end) => Some(&end.stage),
            Event::StageStarted { stage, .. }
            | Event::Progress { stage, .. }
            | Event::Metric { stage, .. }
            | Event::Rejected { stage, .. }
            | Event::Retrying { stage, .. }
            | Event::Exported { stage, .. }
            | Event::ExportFailed { stage, .. } => Some(stage),
        }
    }
}

/// The end of a stage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StageEnd {
    /// The stage.
    pub stage: Arc<str>,
    /// Its op.
    pub op: Cow<'static, str>,
    /// How it ended.
    pub status: Status,
    /// Its key, if it came to have one.
    pub key: Option<Digest>,
    /// Its result, if it has one.
    pub output: Option<Digest>,
    /// The result's type.
    pub ty: Cow<'static, str>,
    /// Items of the result.
    pub count: Option<u64>,
    /// For map stages, units of work by what became of them.
    pub units: Option<Box<UnitCounts>>,
    /// Numbers about the result.
    pub metrics: Box<[(String, f64)]>,
    /// What a reader should know.
    pub notes: Box<[String]>,
    /// Items that could not be used.
    #[serde(alias = "quarantined")]
    pub rejected: u64,
    /// How long it took in this run.
    pub took_ms: u64,
    /// Why it failed or was skipped.
    pub error: Option<Box<StageError>>,
}

/// Why a stage has no result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageError {
    /// What is wrong, and where.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// Units of work of a map stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UnitCounts {
    /// All there are.
    pub total: u64,
    /// Known before.
    pub reused: u64,
    /// Worked out in this run.
    pub computed: u64,
    /// Of all, those that could not be used.
    pub bad: u64,
}

/// How a stage ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It ran and has a result.
    Ran,
    /// Its result was known, and so was everything above it.
    Reused,
    /// A stage above it ran, gave the same bytes as before, and so its result was known.
    #[serde(alias = "cut_off")]
    UpToDate,
    /// It ran and has no result.
    Failed,
    /// A stage above it failed.
    Skipped,
    /// The run was asked to stop before it ended.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything wanted is there.
    Done,
    /// At least one stage failed.
    Failed,
    /// It was asked to stop.
    Interrupted,
}

/// Is told of every event, with the milliseconds since the run began.
pub trait Listener {
    /// Something happened.
    fn event(&mut self, at_ms: u64, event: &Event);
    /// Nothing happens for the moment: what was held back can be shown.
    fn idle(&mut self) {}
}

/// Everybody who is told of a run.
pub(crate) struct Audience<'l> {
    pub(crate) started: Instant,
    pub(crate) listeners: Vec<&'l mut dyn Listener>,
}

impl Audience<'_> {
    pub(crate) fn tell(&mut self, event: &Event) {
        let at = self.elapsed_ms();
        self.listeners
            .iter_mut()
            .for_each(|listener| listener.event(at, event));
    }

    pub(crate) fn idle(&mut self) {
        self.listeners
            .iter_mut()
            .for_each(|listener| listener.idle());
    }

    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A line of the event log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Logged {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}
