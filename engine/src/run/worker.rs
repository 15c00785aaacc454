//! Workers: take a task, do it, report by message. They share nothing but the cache, which is safe
//! to use from many threads and processes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::cache::records::Record;
use crate::ctx::{StageCtx, StageParts};
use crate::digest::Digest;
use crate::event::UnitCounts;
use crate::files::{Files, InputFile};
use crate::graph::{Node, NodeId};
use crate::isolate::{self, Isolation};
use crate::key::{KeyInputs, NumericEnv};
use crate::map;
use crate::op::{Body, OpError, Output};

pub(crate) enum Task {
    /// Compute the key of a stage and look up its record.
    Probe(Box<ProbeTask>),
    /// Run the body of a stage.
    Run(Box<RunTask>),
}

pub(crate) struct ProbeTask {
    pub(crate) id: NodeId,
    pub(crate) node: Arc<Node>,
    pub(crate) inputs: Vec<(&'static str, Digest)>,
    pub(crate) base: std::path::PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
}

pub(crate) struct RunTask {
    pub(crate) id: NodeId,
    pub(crate) node: Arc<Node>,
    pub(crate) parts: StageParts,
    /// How to start a process for it; without, it runs in this one.
    pub(crate) isolation: Option<Arc<Isolation>>,
}

/// What workers and the thread that commits report to the owner.
pub(crate) enum Completion {
    Probed(NodeId, Result<Box<ProbeResult>, OpError>),
    Ran(NodeId, Box<Execution>),
    /// Records that are on disk, with a warning or none, and those that could not be written.
    Committed(Vec<(NodeId, Result<Option<String>, OpError>)>),
}

/// A stage's key, and its record if it is in the cache with all of its objects.
pub(crate) struct ProbeResult {
    pub(crate) key: Digest,
    pub(crate) key_inputs: KeyInputs,
    pub(crate) sources: Vec<InputFile>,
    pub(crate) record: Option<Record>,
    pub(crate) took_ms: u64,
}

/// How one execution of a stage's body ended. With another error type it travels between processes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Execution<E = OpError> {
    pub(crate) result: Result<Record, E>,
    pub(crate) units: Option<UnitCounts>,
    /// Where its final training state is kept for warm starts: the key without the argument, and
    /// the argument's value.
    pub(crate) warm_start: Option<(Digest, u64)>,
    pub(crate) timed_out: bool,
    pub(crate) took_ms: u64,
}

impl<E> Execution<E> {
    /// One that ended before a body ran.
    pub(crate) fn failed(error: E) -> Self {
        Self {
            result: Err(error),
            units: None,
            warm_start: None,
            timed_out: false,
            took_ms: 0,
        }
    }

    pub(crate) fn map_err<F>(self, convert: impl FnOnce(E) -> F) -> Execution<F> {
        Execution {
            result: self.result.map_err(convert),
            units: self.units,
            warm_start: self.warm_start,
            timed_out: self.timed_out,
            took_ms: self.took_ms,
        }
    }
}

/// Works until the owner closes the channel of tasks.
pub(crate) fn run_tasks(tasks: &Receiver<Task>, completions: &Sender<Completion>) {
    for task in tasks {
        let completion = match task {
            Task::Probe(task) => {
                open_index(&task.node, &task.cache);
                let probe = catch_panic(&task.node, || probe_stage(&task));
                Completion::Probed(task.id, probe.map(Box::new))
            }
            Task::Run(task) => {
                let id = task.id;
                open_index(&task.node, &task.parts.cache);
                let execution = match task.isolation.clone() {
                    Some(isolation) => isolate::run_in_child(*task, &isolation),
                    None => run_stage(*task),
                };
                Completion::Ran(id, Box::new(execution))
            }
        };
        if completions.send(completion).is_err() {
            return;
        }
    }
}

/// Opens the index for a stage that will ask it. Building a lost index again takes long: that must
/// count neither as the stage's own time nor towards its timeout.
fn open_index(node: &Node, cache: &Cache) {
    if node.op.sources.is_some() || matches!(node.op.body, Body::Map(_)) {
        // Should it panic, the stage panics again when it asks, and reports that.
        let _ = catch_unwind(AssertUnwindSafe(|| cache.open_index()));
    }
}

/// Computes the key of a stage and looks up its record.
pub(crate) fn probe_stage(task: &ProbeTask) -> Result<ProbeResult, OpError> {
    let started = Instant::now();
    let (node, inputs) = (&task.node, task.inputs.clone());
    let files = Files::new(&task.base, Some(&task.cache.files));
    let sources = match &node.op.sources {
        Some(list_sources) => list_sources(&node.args, &files)?,
        None => Vec::new(),
    };
    let key_inputs = KeyInputs::new(&node.op, &node.args, inputs, &sources, &task.env);
    let key = key_inputs.hash();
    let record = task.cache.hit(&key)?;
    Ok(ProbeResult {
        key,
        key_inputs,
        sources,
        record,
        took_ms: elapsed_ms(started),
    })
}

/// Runs a stage in this process.
pub(crate) fn run_stage(task: RunTask) -> Execution {
    let started = Instant::now();
    let started_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64);
    let node = task.node;
    let mut ctx = StageCtx::new(task.parts);
    let output = catch_panic(&node, || run_body(&node, &mut ctx));
    let result = output.and_then(|output| {
        check_sources(&node, &ctx)?;
        build_record(&node, &ctx, output, started_ms, elapsed_ms(started))
    });
    let log = ctx.log();
    Execution {
        result,
        units: log.units,
        warm_start: log.warm_start,
        timed_out: ctx.timed_out(),
        took_ms: elapsed_ms(started),
    }
}

fn run_body(node: &Node, ctx: &mut StageCtx) -> Result<Output, OpError> {
    match &node.op.body {
        Body::Run(run) => {
            let output = run(ctx)?;
            let rejected = ctx.log().rejected.len() as u64;
            let total = rejected + output.count.unwrap_or(0);
            match ctx.budget_error(rejected, total) {
                Some(error) => Err(error),
                None => Ok(output),
            }
        }
        Body::Map(map) => {
            let op = map(ctx)?;
            map::run(ctx, op.as_ref())
        }
        Body::Config | Body::Compose(_) => Err(OpError::Bug(format!(
            "op `{}` has no body to run",
            node.op.signature.name
        ))),
    }
}

/// The key has the digests that the files had before the stage read them: if one has changed since,
/// it is not known which bytes the result comes from.
fn check_sources(node: &Node, ctx: &StageCtx) -> Result<(), OpError> {
    let files = &ctx.cache().files;
    match ctx.sources().iter().find(|file| !file.unchanged(files)) {
        Some(file) => Err(OpError::failed(
            format!(
                "{} changed while `{}` was reading it",
                file.path.display(),
                node.name
            ),
            "run again when nothing writes to it any more",
        )),
        None => Ok(()),
    }
}

fn build_record(
    node: &Node,
    ctx: &StageCtx,
    output: Output,
    started_ms: u64,
    took_ms: u64,
) -> Result<Record, OpError> {
    let mut side_outputs: Vec<(String, Digest)> = Vec::new();
    for (name, digest) in &output.side_outputs {
        side_outputs.push(((*name).to_owned(), *digest));
    }
    let curves = ctx.curves();
    if !curves.is_empty() {
        let bytes = serde_json::to_vec(&curves).expect("steps and numbers are plain data");
        side_outputs.push(("curves".to_owned(), ctx.put(&bytes)?));
    }
    let log = ctx.log();
    let mut objects = log.objects.clone();
    objects.sort_unstable();
    objects.dedup();
    let mut notes = output.notes;
    notes.extend(log.notes.iter().cloned());
    Ok(Record {
        version: Record::VERSION,
        stage: node.name.to_string(),
        op: node.op.signature.name.to_owned(),
        key_inputs: ctx.key_inputs().fields(),
        ty: node.output.to_string(),
        output: output.digest,
        count: output.count,
        side_outputs,
        objects,
        metrics: output.metrics,
        notes,
        rejected: log.rejected.clone(),
        started_ms,
        took_ms,
    })
}

/// A panic is a mistake in an op, not the end of the run.
fn catch_panic<T>(node: &Node, work: impl FnOnce() -> Result<T, OpError>) -> Result<T, OpError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(OpError::Bug(format!(
            "op `{}` panicked: {}",
            node.op.signature.name,
            panic_message(panic.as_ref())
        )))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text;
    }
    panic
        .downcast_ref::<&str>()
        .copied()
        .unwrap_or("no message")
}

pub(crate) fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
