//! What the body of a stage sees: its arguments and inputs, and the way to its results.
//!
//! [`StageCtx`] is one type whose methods are grouped by what they are about: datasets
//! (`dataset`), units of work (`units`), training state (`checkpoints`), and what the stage
//! reports while it runs (`log`).

mod checkpoints;
mod dataset;
mod log;
mod stop;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blip_grammar::Attributes;
use crossbeam::channel::Sender;

pub use self::checkpoints::StageCheckpoints;
pub use self::dataset::{Dataset, DatasetWriter};
use self::log::StageLog;
pub use self::stop::StopSignal;
pub(crate) use self::units::{UnitBuffer, budget_error, unit_key};
use crate::args::Args;
use crate::cache::Cache;
use crate::cache::objects::ObjectError;
use crate::cache::session::Scratch;
use crate::digest::Digest;
use crate::event::Event;
use crate::files::InputFile;
use crate::key::{KeyInputs, NumericEnv};
use crate::op::{Artifact, OpError};

/// Everything that a [`StageCtx`] is made of.
pub(crate) struct StageParts {
    pub(crate) stage: Arc<str>,
    pub(crate) args: Args,
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) inputs: Vec<(&'static str, Artifact)>,
    pub(crate) sources: Vec<InputFile>,
    /// Where the contents of the user's files are that stages of this run read.
    pub(crate) content_paths: Arc<BTreeMap<Digest, PathBuf>>,
    /// Those of all upstream stages, by name.
    pub(crate) side_outputs: BTreeMap<String, Vec<Artifact>>,
    pub(crate) key_inputs: KeyInputs,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
    pub(crate) stop: StopSignal,
    pub(crate) events: Sender<Event>,
    pub(crate) scratch: Scratch,
    /// Units that were rejected before are computed again.
    pub(crate) retry_bad: bool,
}

/// A stage that a result comes from, as an export sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct UpstreamStage {
    /// Its name in the workflow.
    pub stage: Arc<str>,
    pub op: String,
    /// Names and values of those arguments that are not results of stages.
    pub args: Vec<(String, String)>,
    pub key: Digest,
    pub output: Digest,
    /// The number of items in the result, for types that have items.
    pub count: Option<u64>,
    pub metrics: Vec<(String, f64)>,
}

/// What the body of a stage sees.
pub struct StageCtx {
    parts: StageParts,
    lineage: Vec<UpstreamStage>,
    deadline: Option<Instant>,
    checkpoints: StageCheckpoints,
    log: Mutex<StageLog>,
}

impl std::fmt::Debug for StageCtx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StageCtx")
            .field("stage", &self.parts.stage)
            .finish_non_exhaustive()
    }
}

impl StageCtx {
    pub(crate) fn new(parts: StageParts) -> Self {
        let deadline = parts
            .attributes
            .timeout_ms
            .map(|limit| Instant::now() + Duration::from_millis(limit));
        Self {
            checkpoints: StageCheckpoints::new(&parts),
            parts,
            lineage: Vec::new(),
            deadline,
            log: Mutex::default(),
        }
    }

    pub(crate) fn with_lineage(self, lineage: Vec<UpstreamStage>) -> Self {
        Self { lineage, ..self }
    }

    /// The stage's name.
    pub fn stage(&self) -> &str {
        &self.parts.stage
    }

    pub fn args(&self) -> &Args {
        &self.parts.args
    }

    /// The result that a stage-typed argument holds.
    ///
    /// # Errors
    /// [`OpError::Bug`] when the op declares no such argument, or it is absent.
    pub fn input(&self, arg: &str) -> Result<&Artifact, OpError> {
        let input = self.parts.inputs.iter().find(|(name, _)| *name == arg);
        match input {
            Some((_, artifact)) => Ok(artifact),
            None => Err(OpError::Bug(format!(
                "op `{}` has no input `{arg}`",
                self.parts.args.op()
            ))),
        }
    }

    /// The results that a variadic or list argument holds, in order.
    ///
    /// # Errors
    /// [`OpError::Bug`] when the op declares no such argument.
    pub fn inputs(&self, arg: &str) -> Result<Vec<&Artifact>, OpError> {
        self.parts.args.value(arg)?;
        let inputs = self.parts.inputs.iter().filter(|(name, _)| *name == arg);
        Ok(inputs.map(|(_, artifact)| artifact).collect())
    }

    /// The user's files that the op listed.
    pub fn sources(&self) -> &[InputFile] {
        &self.parts.sources
    }

    /// The properties of the machine that numeric results depend on.
    pub fn env(&self) -> &NumericEnv {
        &self.parts.env
    }

    /// For an export: the stage whose result it writes and everything upstream, inputs first. Empty
    /// for a stage.
    pub fn lineage(&self) -> &[UpstreamStage] {
        &self.lineage
    }

    /// The side outputs of this name of all upstream stages, in an order that depends on the
    /// workflow alone.
    pub fn side_outputs(&self, name: &str) -> Vec<Artifact> {
        self.parts
            .side_outputs
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// [`OpError::Corrupt`] when it is missing or corrupt: passed on, it makes the engine run the
    /// stage that produced it again, and then this one.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, OpError> {
        self.parts.cache.objects.get(digest).map_err(object_error)
    }

    /// The file of an object, for reading in pieces.
    ///
    /// # Errors
    /// As [`StageCtx::read`].
    pub fn object_path(&self, digest: &Digest) -> Result<PathBuf, OpError> {
        self.parts
            .cache
            .objects
            .verified_path(digest)
            .map_err(object_error)
    }

    /// A file with this content: a user's file that a stage of this run reads, or an object.
    ///
    /// # Errors
    /// As [`StageCtx::read`].
    pub fn content_path(&self, digest: &Digest) -> Result<PathBuf, OpError> {
        match self.parts.content_paths.get(digest) {
            Some(path) => Ok(path.clone()),
            None => self.object_path(digest),
        }
    }

    /// Stores bytes as an object of this stage.
    ///
    /// # Errors
    /// [`OpError::Disk`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, OpError> {
        let digest = self.parts.cache.objects.put(bytes)?;
        self.keep(digest);
        Ok(digest)
    }

    /// Stores a file of [`StageCtx::scratch`] by moving it.
    ///
    /// # Errors
    /// [`OpError::Disk`], or when it cannot be read.
    pub fn put_file(&self, path: &Path) -> Result<Digest, OpError> {
        let objects = &self.parts.cache.objects;
        let digest = objects.put_file(path).map_err(object_error)?;
        self.keep(digest);
        Ok(digest)
    }

    /// Makes an object that is in the cache already part of the result.
    pub(crate) fn keep(&self, object: Digest) {
        self.log().objects.push(object);
    }

    /// A folder for temporary files, removed when the stage ends.
    pub fn scratch(&self) -> &Path {
        self.parts.scratch.path()
    }

    /// Whether the stage should stop: the user asked for it, or its time is over.
    pub fn interrupted(&self) -> bool {
        self.parts.stop.is_requested() || self.timed_out()
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// [`StageCtx::interrupted`] as an error to pass on.
    ///
    /// # Errors
    /// [`OpError::Interrupted`].
    pub fn check_interrupted(&self) -> Result<(), OpError> {
        if self.interrupted() {
            Err(OpError::Interrupted)
        } else {
            Ok(())
        }
    }

    pub(crate) fn key_inputs(&self) -> &KeyInputs {
        &self.parts.key_inputs
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.parts.cache
    }
}

pub(crate) fn object_error(error: ObjectError) -> OpError {
    match error {
        ObjectError::Missing(digest) => OpError::Corrupt(digest),
        ObjectError::Disk(error) => OpError::Disk(error),
    }
}
