//! A stage on its way to a child, and the end of its execution on the way back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blip_grammar::Attributes;
use crossbeam::channel::Sender;
use serde::{Deserialize, Serialize};

use super::value::{decode_args, encode_args};
use crate::args::Args;
use crate::cache::Cache;
use crate::ctx::{StageParts, StopSignal};
use crate::digest::Digest;
use crate::event::Event;
use crate::files::InputFile;
use crate::graph::{Node, NodeId};
use crate::key::{KeyInputs, NumericEnv};
use crate::op::{Artifact, Op, OpError, OpSet};
use crate::run::worker::RunTask;

/// The name of a task file in a stage's scratch folder.
pub(super) const TASK_FILE_NAME: &str = "job.json";

/// A task lists every file that its stage reads, which may be many thousands.
const TASK_BYTES_MAX: u64 = 256 << 20;

/// What a task file holds. Both sides are the same program, so it needs no version.
#[derive(Serialize, Deserialize)]
struct TaskFile {
    /// The cache folder.
    cache: PathBuf,
    stage: Arc<str>,
    op: String,
    args: serde_json::Value,
    timeout_ms: Option<u64>,
    checkpoint_every_ms: Option<u64>,
    checkpoint_every_steps: Option<u64>,
    max_bad_ppm: Option<u32>,
    inputs: Vec<(String, Artifact)>,
    sources: Vec<InputFile>,
    content_paths: BTreeMap<Digest, PathBuf>,
    side_outputs: BTreeMap<String, Vec<Artifact>>,
    env: Vec<(String, String)>,
    retry_bad: bool,
}

/// A task file with its names resolved against the ops of this process.
pub(super) struct ChildTask {
    file: TaskFile,
    op: Arc<Op>,
    args: Args,
    inputs: Vec<(&'static str, Artifact)>,
}

/// The bytes of the task file for a stage.
pub(super) fn encode_task(task: &RunTask) -> Vec<u8> {
    let (node, parts) = (&task.node, &task.parts);
    let mut inputs = Vec::with_capacity(parts.inputs.len());
    for (arg, artifact) in &parts.inputs {
        inputs.push(((*arg).to_owned(), artifact.clone()));
    }
    // The attributes that a body sees. The others are the parent's: it gives resources, retries and
    // watches memory.
    let attributes = &node.attributes;
    let file = TaskFile {
        cache: parts.cache.folder().to_path_buf(),
        stage: node.name.clone(),
        op: node.op.signature.name.to_owned(),
        args: encode_args(node.args.values()),
        timeout_ms: attributes.timeout_ms,
        checkpoint_every_ms: attributes.checkpoint_every_ms,
        checkpoint_every_steps: attributes.checkpoint_every_steps,
        max_bad_ppm: attributes.max_bad_ppm,
        inputs,
        sources: parts.sources.clone(),
        content_paths: parts.content_paths.as_ref().clone(),
        side_outputs: parts.side_outputs.clone(),
        env: parts.env.fields.clone(),
        retry_bad: parts.retry_bad,
    };
    serde_json::to_vec(&file).expect("a task is plain data with text keys")
}

impl ChildTask {
    /// Reads a task file.
    ///
    /// # Errors
    /// The message, when it cannot be read or this program does not have the op.
    pub(super) fn read(path: &Path, ops: &OpSet) -> Result<Self, String> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(TASK_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("could not read {}: {error}", path.display()))?;
        if bytes.len() as u64 > TASK_BYTES_MAX {
            return Err(format!(
                "{} is not a task file: it is too large",
                path.display()
            ));
        }
        let file: TaskFile = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{} is not a task file: {error}", path.display()))?;
        let unknown = || format!("this program has no op `{}` with these arguments", file.op);
        let op = ops.op(&file.op).ok_or_else(unknown)?;
        let values = decode_args(&file.op, &file.args, ops).ok_or_else(unknown)?;
        let mut inputs = Vec::with_capacity(file.inputs.len());
        for (name, artifact) in &file.inputs {
            let declared = op.signature.args.iter().find(|arg| arg.name == name);
            inputs.push((declared.ok_or_else(unknown)?.name, artifact.clone()));
        }
        Ok(Self {
            op: Arc::clone(op),
            args: Args::new(op.signature.name, values),
            inputs,
            file,
        })
    }

    pub(super) fn cache_folder(&self) -> &Path {
        &self.file.cache
    }

    /// The task as a worker takes it.
    pub(super) fn into_run_task(
        self,
        cache: Arc<Cache>,
        stop: StopSignal,
        events: Sender<Event>,
    ) -> RunTask {
        let Self {
            file,
            op,
            args,
            inputs,
        } = self;
        let attributes = Arc::new(Attributes {
            timeout_ms: file.timeout_ms,
            checkpoint_every_ms: file.checkpoint_every_ms,
            checkpoint_every_steps: file.checkpoint_every_steps,
            max_bad_ppm: file.max_bad_ppm,
            ..Attributes::default()
        });
        let env = Arc::new(NumericEnv { fields: file.env });
        let mut digests = Vec::with_capacity(inputs.len());
        for (name, artifact) in &inputs {
            digests.push((*name, artifact.digest));
        }
        let key_inputs = KeyInputs::new(&op, &args, digests, &file.sources, &env);
        let node = Node {
            name: file.stage.clone(),
            output: op.signature.output,
            op,
            args: args.clone(),
            attributes: Arc::clone(&attributes),
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
        RunTask {
            id: NodeId::default(),
            node: Arc::new(node),
            parts,
            isolation: None,
        }
    }
}

/// An [`OpError`] that can be sent to another process.
#[derive(Serialize, Deserialize)]
pub(super) enum WireError {
    Failed { what: String, help: String },
    Interrupted,
    Corrupt(Digest),
    Bug(String),
}

impl From<OpError> for WireError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Interrupted => WireError::Interrupted,
            OpError::Corrupt(digest) => WireError::Corrupt(digest),
            OpError::Bug(what) => WireError::Bug(what),
            // Of an error of the disk only what the user reads is needed.
            OpError::Failed { .. } | OpError::Disk(_) => WireError::Failed {
                what: error.to_string(),
                help: error.help(),
            },
        }
    }
}

impl From<WireError> for OpError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Failed { what, help } => OpError::Failed { what, help },
            WireError::Interrupted => OpError::Interrupted,
            WireError::Corrupt(digest) => OpError::Corrupt(digest),
            WireError::Bug(what) => OpError::Bug(what),
        }
    }
}
