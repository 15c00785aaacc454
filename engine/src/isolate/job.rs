//! A stage on its way to a child, and its result on the way back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blip_grammar::Attributes;
use crossbeam::channel::Sender;
use serde::{Deserialize, Serialize};

use super::value::{decode_args, encode_args};
use crate::args::Args;
use crate::cache::Cache;
use crate::cache::disk::Disk;
use crate::cache::records::Record;
use crate::ctx::{StageParts, StopSignal};
use crate::digest::Digest;
use crate::event::{Event, UnitCounts};
use crate::files::SourceFile;
use crate::graph::{Node, NodeId};
use crate::key::{KeyInputs, NumericEnv};
use crate::op::{Artifact, Op, OpError, OpSet};
use crate::run::worker::{Ran, RunJob};

/// The job file.
#[derive(Serialize, Deserialize)]
struct JobFile {
    cache: PathBuf,
    stage: Arc<str>,
    op: String,
    args: serde_json::Value,
    timeout_ms: Option<u64>,
    checkpoint_every_ms: Option<u64>,
    checkpoint_every_steps: Option<u64>,
    max_bad_ppm: Option<u32>,
    inputs: Vec<(String, Artifact)>,
    sources: Vec<SourceFile>,
    content_paths: BTreeMap<Digest, PathBuf>,
    side_outputs: BTreeMap<String, Vec<Artifact>>,
    env: Vec<(String, String)>,
    retry_bad: bool,
}

/// A job that was read.
pub(super) struct StageJob {
    file: JobFile,
    op: Arc<Op>,
    args: Args,
    inputs: Vec<(&'static str, Artifact)>,
}

impl StageJob {
    /// The bytes of a job file.
    pub(super) fn bytes(job: &RunJob) -> Vec<u8> {
        let (node, parts) = (&job.node, &job.parts);
        let Attributes {
            timeout_ms,
            checkpoint_every_ms,
            checkpoint_every_steps,
            max_bad_ppm,
            ..
        } = *node.attributes;
        let inputs = parts
            .inputs
            .iter()
            .map(|(arg, artifact)| ((*arg).to_owned(), artifact.clone()))
            .collect();
        let file = JobFile {
            cache: parts.cache.folder().to_path_buf(),
            stage: node.name.clone(),
            op: node.op.signature.name.to_owned(),
            args: encode_args(node.args.values()),
            timeout_ms,
            checkpoint_every_ms,
            checkpoint_every_steps,
            max_bad_ppm,
            inputs,
            sources: parts.sources.clone(),
            content_paths: parts.content_paths.as_ref().clone(),
            side_outputs: parts.side_outputs.clone(),
            env: parts.env.fields.clone(),
            retry_bad: parts.retry_bad,
        };
        serde_json::to_vec(&file).expect("a job is plain data with text keys")
    }

    /// Reads a job file; the cache's folder is told apart, since it is opened first.
    pub(super) fn read(path: &Path, ops: &OpSet) -> Result<(Self, PathBuf), String> {
        let bytes = fs::read(path)
            .map_err(|error| format!("could not read {}: {error}", path.display()))?;
        let file: JobFile = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{} is no job: {error}", path.display()))?;
        let unknown = || format!("this program has no op `{}` with these arguments", file.op);
        let op = ops.op(&file.op).ok_or_else(unknown)?;
        let args = Args::new(
            op.signature.name,
            decode_args(&file.op, &file.args, ops).ok_or_else(unknown)?,
        );
        let input = |(name, artifact): &(String, Artifact)| {
            let known = op.signature.args.iter().find(|arg| arg.name == name)?;
            Some((known.name, artifact.clone()))
        };
        let inputs = file
            .inputs
            .iter()
            .map(input)
            .collect::<Option<_>>()
            .ok_or_else(unknown)?;
        let folder = file.cache.clone();
        Ok((
            Self {
                op: Arc::clone(op),
                args,
                inputs,
                file,
            },
            folder,
        ))
    }

    pub(super) fn disk(&self) -> Disk {
        Disk::default()
    }

    /// The job as a worker takes it.
    pub(super) fn into_run(
        self,
        cache: Arc<Cache>,
        stop: StopSignal,
        events: Sender<Event>,
    ) -> RunJob {
        let Self {
            file,
            op,
            args,
            inputs,
        } = self;
        let JobFile {
            timeout_ms,
            checkpoint_every_ms,
            checkpoint_every_steps,
            max_bad_ppm,
            ..
        } = file;
        let attributes = Arc::new(Attributes {
            timeout_ms,
            checkpoint_every_ms,
            checkpoint_every_steps,
            max_bad_ppm,
            ..Attributes::default()
        });
        let env = Arc::new(NumericEnv { fields: file.env });
        let digests = inputs
            .iter()
            .map(|(name, artifact)| (*name, artifact.digest))
            .collect();
        let key_inputs = KeyInputs::new(&op, &args, digests, &file.sources, &env);
        let output = op.signature.output;
        let node = Node {
            name: file.stage.clone(),
            op,
            args: args.clone(),
            attributes: Arc::clone(&attributes),
            output,
        };
        let parts = StageParts {
            stage: file.stage,
            args,
            attributes,
            inputs,
            sources: file.sources,
            content_paths: Arc::new(file.content_paths),
            side_outputs: file.side_outputs,
            key_inputs,
            scratch: cache.scratch(),
            cache,
            env,
            stop,
            events,
            retry_bad: file.retry_bad,
        };
        RunJob {
            id: NodeId::default(),
            node: Arc::new(node),
            parts,
            isolation: None,
        }
    }
}

/// What became of the stage.
#[derive(Serialize, Deserialize)]
pub(super) struct Answered {
    result: Result<Record, Trouble>,
    units: Option<UnitCounts>,
    grows: Option<(Digest, u64)>,
    timed_out: bool,
}

/// An [`OpError`] that can travel.
#[derive(Serialize, Deserialize)]
enum Trouble {
    Failed { what: String, help: String },
    Interrupted,
    Damaged(Digest),
    Bug(String),
}

impl Answered {
    pub(super) fn of(ran: Ran) -> Self {
        let trouble = |error: OpError| match error {
            OpError::Interrupted => Trouble::Interrupted,
            OpError::Damaged(digest) => Trouble::Damaged(digest),
            OpError::Bug(what) => Trouble::Bug(what),
            OpError::Failed { .. } | OpError::Disk(_) => Trouble::Failed {
                what: error.to_string(),
                help: error.help(),
            },
        };
        let Ran {
            result,
            units,
            grows,
            timed_out,
            ..
        } = ran;
        Self {
            result: result.map_err(trouble),
            units,
            grows,
            timed_out,
        }
    }

    pub(super) fn failed(what: &str, help: &str) -> Self {
        let result = Err(Trouble::Failed {
            what: what.to_owned(),
            help: help.to_owned(),
        });
        Self {
            result,
            units: None,
            grows: None,
            timed_out: false,
        }
    }

    pub(super) fn into_ran(self, took_ms: u64) -> Ran {
        let Self {
            result,
            units,
            grows,
            timed_out,
        } = self;
        let result = result.map_err(|trouble| match trouble {
            Trouble::Failed { what, help } => OpError::Failed { what, help },
            Trouble::Interrupted => OpError::Interrupted,
            Trouble::Damaged(digest) => OpError::Damaged(digest),
            Trouble::Bug(what) => OpError::Bug(what),
        });
        Ran {
            result,
            units,
            grows,
            timed_out,
            took_ms,
        }
    }
}
