//! Workers: take a job, do it, answer by message. They share nothing but the cache, which takes
//! care of itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender};

use crate::cache::Cache;
use crate::cache::records::Record;
use crate::ctx::{StageCtx, StageParts, budget_error};
use crate::digest::Digest;
use crate::event::UnitCounts;
use crate::files::{Files, SourceFile};
use crate::graph::{Node, NodeId};
use crate::isolate::{self, Isolation};
use crate::key::{KeyInputs, NumericEnv};
use crate::map;
use crate::op::{Body, OpError};

/// What a worker is asked for.
pub(crate) enum Job {
    /// The key of a stage, and its record if there is one.
    Probe(Box<ProbeJob>),
    /// The result of a stage.
    Run(Box<RunJob>),
}

pub(crate) struct ProbeJob {
    pub(crate) id: NodeId,
    pub(crate) node: Arc<Node>,
    pub(crate) inputs: Vec<(&'static str, Digest)>,
    pub(crate) base: std::path::PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
}

pub(crate) struct RunJob {
    pub(crate) id: NodeId,
    pub(crate) node: Arc<Node>,
    pub(crate) parts: StageParts,
    /// How to start a process for it; without, it runs in this one.
    pub(crate) isolation: Option<Arc<Isolation>>,
}

/// What a worker answers.
pub(crate) enum Answer {
    Probed(NodeId, Result<Box<Probe>, OpError>),
    Ran(NodeId, Box<Ran>),
    /// Records that are on the disk, with a warning or none, and those that could not be written.
    Committed(Vec<(NodeId, Result<Option<String>, OpError>)>),
}

/// What a stage's key is and whether it is known.
pub(crate) struct Probe {
    pub(crate) key: Digest,
    pub(crate) key_inputs: KeyInputs,
    pub(crate) sources: Vec<SourceFile>,
    pub(crate) record: Option<Record>,
    pub(crate) took_ms: u64,
}

/// What became of a stage that ran.
pub(crate) struct Ran {
    pub(crate) result: Result<Record, OpError>,
    pub(crate) units: Option<UnitCounts>,
    /// Where its final training state is kept.
    pub(crate) grows: Option<(Digest, u64)>,
    pub(crate) timed_out: bool,
    pub(crate) took_ms: u64,
}

/// Works until there are no more jobs.
pub(crate) fn work(jobs: &Receiver<Job>, answers: &Sender<Answer>) {
    for job in jobs {
        let answer = match job {
            Job::Probe(job) => {
                let id = job.id;
                open_index(&job.node, &job.cache);
                let probed = catch_unwind(AssertUnwindSafe(|| probe(&job)));
                Answer::Probed(
                    id,
                    probed
                        .unwrap_or_else(|panic| {
                            Err(bug(job.node.op.signature.name, panic.as_ref()))
                        })
                        .map(Box::new),
                )
            }
            Job::Run(job) => {
                let (id, isolation) = (job.id, job.isolation.clone());
                open_index(&job.node, &job.parts.cache);
                let ran = match isolation {
                    Some(isolation) => isolate::run(*job, &isolation),
                    None => run(*job),
                };
                Answer::Ran(id, Box::new(ran))
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// Opens the index for a stage that will ask it. An index that has to be built again takes long:
/// that is neither the stage's own time nor its deadline's.
fn open_index(node: &Node, cache: &Cache) {
    if node.op.sources.is_some() || matches!(node.op.body, Body::Map(_)) {
        // Should it panic, the stage that asks hears of it.
        let _ = catch_unwind(AssertUnwindSafe(|| cache.open_index()));
    }
}

/// Makes the key and looks it up.
pub(crate) fn probe(job: &ProbeJob) -> Result<Probe, OpError> {
    let started = Instant::now();
    let files = Files::new(&job.base, Some(&job.cache.files));
    let sources = sources(&job.node, &files)?;
    let key_inputs = KeyInputs::new(
        &job.node.op,
        &job.node.args,
        job.inputs.clone(),
        &sources,
        &job.env,
    );
    let key = key_inputs.hash();
    let record = job.cache.hit(&key);
    Ok(Probe {
        key,
        key_inputs,
        sources,
        record,
        took_ms: elapsed_ms(started),
    })
}

/// The user's files that a stage reads.
pub(crate) fn sources(node: &Node, files: &Files<'_>) -> Result<Vec<SourceFile>, OpError> {
    node.op
        .sources
        .as_ref()
        .map_or(Ok(Vec::new()), |sources| sources(&node.args, files))
}

/// Runs a stage in this process.
pub(crate) fn run(job: RunJob) -> Ran {
    let started = Instant::now();
    let started_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64);
    let mut ctx = StageCtx::new(job.parts);
    let ran = catch_unwind(AssertUnwindSafe(|| execute(&job.node, &mut ctx)));
    let result = ran.unwrap_or_else(|panic| Err(bug(job.node.op.signature.name, panic.as_ref())));
    let result = result.and_then(|output| {
        if let Some(file) = ctx
            .sources()
            .iter()
            .find(|file| !file.unchanged(&ctx.cache().files))
        {
            let what = format!(
                "{} changed while `{}` read it",
                file.path.display(),
                job.node.name
            );
            return Err(OpError::failed(
                what,
                "run again when nothing writes to it any more",
            ));
        }
        record(&job.node, &ctx, output, started_ms, elapsed_ms(started))
    });
    let traces = ctx.traces();
    Ran {
        result,
        units: traces.units,
        grows: traces.grows,
        timed_out: ctx.timed_out(),
        took_ms: elapsed_ms(started),
    }
}

fn execute(node: &Node, ctx: &mut StageCtx) -> Result<crate::op::Output, OpError> {
    match &node.op.body {
        Body::Run(run) => {
            let output = run(ctx)?;
            let bad = ctx.traces().rejected.len() as u64;
            match budget_error(ctx, bad, bad + output.count.unwrap_or(0)) {
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

/// What is to be known of the stage.
fn record(
    node: &Node,
    ctx: &StageCtx,
    output: crate::op::Output,
    started_ms: u64,
    took_ms: u64,
) -> Result<Record, OpError> {
    let curves = ctx.curves();
    let mut side_outputs: Vec<(String, Digest)> = output
        .side_outputs
        .iter()
        .map(|(name, digest)| ((*name).to_owned(), *digest))
        .collect();
    if !curves.is_empty() {
        let bytes = serde_json::to_vec(&curves).expect("steps and numbers are plain data");
        side_outputs.push(("curves".to_owned(), ctx.put(&bytes)?));
    }
    let traces = ctx.traces();
    let mut objects = traces.objects.clone();
    objects.sort_unstable();
    objects.dedup();
    let key_inputs = ctx.key_inputs();
    Ok(Record {
        version: Record::VERSION,
        stage: node.name.to_string(),
        op: node.op.signature.name.to_owned(),
        key_inputs: key_inputs.fields(),
        ty: node.output.to_string(),
        output: output.digest,
        count: output.count,
        side_outputs,
        objects,
        metrics: output.metrics,
        notes: output
            .notes
            .into_iter()
            .chain(traces.notes.iter().cloned())
            .collect(),
        rejected: traces.rejected.clone(),
        started_ms,
        took_ms,
    })
}

/// A panic is a mistake in an op, not the end of the run.
fn bug(op: &str, panic: &(dyn Any + Send)) -> OpError {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    OpError::Bug(format!(
        "op `{op}` panicked: {}",
        text.unwrap_or("no message")
    ))
}

pub(crate) fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
