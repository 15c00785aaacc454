//! What an op is to the engine: a signature, a version, and a body. The engine has no ops of its
//! own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use blip_grammar::{Arguments, ExportFormat, Signature, SignatureError, Signatures, Type};
use serde::{Deserialize, Serialize};

use crate::args::Args;
use crate::cache::disk::DiskError;
use crate::cache::stage_result::StageResult;
use crate::ctx::StageCtx;
use crate::dataset::{DuplicateId, FormatError, Item};
use crate::digest::Digest;
use crate::files::{Files, InputFile};

/// A kind of work that stages do.
#[derive(Clone)]
pub struct Op {
    /// How the language sees it.
    pub signature: Signature,
    /// Part of the key. Raised whenever the same inputs give other bytes than before.
    pub version: u32,
    /// Whether bits depend on the machine: then [`NumericEnv`](crate::NumericEnv) is part of the
    /// key.
    pub numeric: bool,
    /// Lists the user's files that a stage reads; their contents are part of the key.
    pub sources: Option<SourcesFn>,
    pub body: Body,
}

/// Lists the files a stage reads, when its key is computed.
pub type SourcesFn =
    Arc<dyn Fn(&Args, &Files<'_>) -> Result<Vec<InputFile>, OpError> + Send + Sync>;
/// The body of an op that runs as a whole.
pub type RunFn = Arc<dyn Fn(&mut StageCtx) -> Result<Output, OpError> + Send + Sync>;
/// The body of an op over the items of a dataset.
pub type MapFn = Arc<dyn Fn(&StageCtx) -> Result<Box<dyn MapOp>, OpError> + Send + Sync>;
/// The body of an export.
pub type ExportFn = Arc<
    dyn Fn(&StageCtx, &Artifact, &ExportTarget) -> Result<ExportSummary, OpError> + Send + Sync,
>;

/// What an op does.
#[derive(Clone)]
pub enum Body {
    /// Nothing: the call is a value.
    Config,
    /// Runs as a whole and has one result.
    Run(RunFn),
    /// Maps the items of a dataset; the results of items are cached one by one.
    Map(MapFn),
    /// Calls other ops: each step is a stage of its own, and the last one has the call's name.
    Compose(fn(&Arguments) -> Vec<Step>),
}

impl Op {
    /// An op that runs as a whole.
    pub fn run(
        signature: Signature,
        version: u32,
        run: impl Fn(&mut StageCtx) -> Result<Output, OpError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(signature, version, Body::Run(Arc::new(run)))
    }

    /// An op over the items of a dataset.
    pub fn map(
        signature: Signature,
        version: u32,
        map: impl Fn(&StageCtx) -> Result<Box<dyn MapOp>, OpError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(signature, version, Body::Map(Arc::new(map)))
    }

    /// An op whose calls are values.
    pub fn config(signature: Signature) -> Self {
        Self::new(signature, 1, Body::Config)
    }

    /// An op that calls others.
    pub fn compose(signature: Signature, steps: fn(&Arguments) -> Vec<Step>) -> Self {
        Self::new(signature, 1, Body::Compose(steps))
    }

    fn new(signature: Signature, version: u32, body: Body) -> Self {
        Self {
            signature,
            version,
            numeric: false,
            sources: None,
            body,
        }
    }

    /// The same op with bits that depend on the machine.
    #[must_use]
    pub fn numeric(self) -> Self {
        Self {
            numeric: true,
            ..self
        }
    }

    /// The same op with files that it reads, which `sources` lists.
    #[must_use]
    pub fn reading<F>(self, sources: F) -> Self
    where
        F: Fn(&Args, &Files<'_>) -> Result<Vec<InputFile>, OpError> + Send + Sync + 'static,
    {
        Self {
            sources: Some(Arc::new(sources)),
            ..self
        }
    }
}

/// One stage of a composed op.
#[derive(Clone, Debug)]
pub struct Step {
    /// The op it calls.
    pub op: &'static str,
    /// All of its arguments but the one that takes the previous step's result.
    pub args: Arguments,
    /// The argument that takes the previous step's result.
    pub previous: Option<&'static str>,
}

/// An export format: a form in which results leave the cache.
#[derive(Clone)]
pub struct ExportOp {
    /// How the language sees it.
    pub format: ExportFormat,
    /// Raised whenever the same input is written differently: files of another version are
    /// rewritten.
    pub version: u32,
    pub run: ExportFn,
}

/// Where an export writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportTarget {
    /// An empty folder that takes the files. The engine moves them to where the user wants them.
    pub folder: PathBuf,
    /// The last part of the user's path: a file name, possibly with `{shard:05}` in it.
    pub name: String,
}

/// What an export wrote.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExportSummary {
    /// The number of items, for formats that have items.
    pub count: Option<u64>,
}

/// The result of a stage, as its consumers see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Artifact {
    pub ty: String,
    /// An object of the cache.
    pub digest: Digest,
    /// The stage that produced it.
    pub stage: String,
    /// The number of items, for types that have items.
    pub count: Option<u64>,
}

impl Artifact {
    pub(crate) fn of(stage: &str, ty: Type, result: &StageResult) -> Self {
        Self {
            ty: ty.to_string(),
            digest: result.output,
            stage: stage.to_owned(),
            count: result.count,
        }
    }
}

/// The result of a stage, as its body returns it.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// An object stored by [`StageCtx::put`].
    pub digest: Digest,
    /// The number of items, for types that have items.
    pub count: Option<u64>,
    pub metrics: Vec<(String, f64)>,
    /// By name. They are outside the result's digest: consumers do not run again when only these
    /// change.
    pub side_outputs: Vec<(&'static str, Digest)>,
    /// What a reader should know: "17 duplicates dropped".
    pub notes: Vec<String>,
}

impl Output {
    /// A result without items, metrics or side outputs.
    pub fn of(digest: Digest) -> Self {
        Self {
            digest,
            count: None,
            metrics: Vec::new(),
            side_outputs: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// A stage that maps every input item to one output item.
pub trait MapOp: Send {
    /// The argument that holds the dataset.
    fn input_arg(&self) -> &'static str;
    /// What the result for an item depends on, besides the stage's other arguments: one digest per
    /// cached unit of work.
    ///
    /// # Errors
    /// When the item cannot be decoded.
    fn units(&self, item: &Item) -> Result<Vec<Digest>, OpError>;
    /// Arguments that decide which units an item has, or how its result is assembled, and that no
    /// unit's result depends on: a new value costs only the units that are new.
    fn args_outside_unit_key(&self) -> &'static [&'static str] {
        &[]
    }
    /// The most items that [`MapWorker::process`] is given at a time.
    fn batch(&self) -> usize;
    /// Loads what the work needs, such as a model. Called once, and only when a unit is missing.
    ///
    /// # Errors
    /// As loading gives.
    fn worker(&self, ctx: &StageCtx) -> Result<Box<dyn MapWorker>, OpError>;
    /// The output item's payload from the results of its units. Pure.
    ///
    /// # Errors
    /// When the item or a result cannot be decoded.
    fn assemble(&self, item: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError>;
}

/// Does the work of a map stage.
pub trait MapWorker {
    /// The results of the missing units of these items, in order: one list per item, one result per
    /// missing unit. Must not depend on which items are in a batch together.
    ///
    /// # Errors
    /// As the work gives; a single item that cannot be used is a [`UnitResult::Bad`] instead.
    fn process(&mut self, ctx: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError>;
}

/// An item some of whose units are not cached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Work {
    pub item: Item,
    /// The indices of its missing units, ascending.
    pub missing: Vec<usize>,
}

/// The result of a unit of work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnitResult {
    Ok(Vec<u8>),
    /// Rejected, with the reason. Cached like a result, and not tried again unless the run asks for
    /// it.
    Bad(String),
}

/// Why a stage has no result.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// Something the user can fix.
    #[error("{what}")]
    Failed {
        /// What is wrong, and where.
        what: String,
        /// What the user can do.
        help: String,
    },
    /// The run was asked to stop, or the stage's time is over.
    #[error("interrupted")]
    Interrupted,
    /// An object it needs is missing or corrupt: the engine recomputes it and runs the stage again.
    #[error("object {} is missing or corrupt", .0.short())]
    Corrupt(Digest),
    /// The cache's disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A mistake in the op.
    #[error("{0}")]
    Bug(String),
}

impl OpError {
    /// Something the user can fix: what is wrong, and what to do.
    pub fn failed(what: impl Into<String>, help: impl Into<String>) -> Self {
        OpError::Failed {
            what: what.into(),
            help: help.into(),
        }
    }

    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            OpError::Failed { help, .. } => help.clone(),
            OpError::Interrupted => "run again to resume where it stopped".to_owned(),
            OpError::Corrupt(_) => "run again to recompute it".to_owned(),
            OpError::Disk(error) => error.help().to_owned(),
            OpError::Bug(_) => "this is a bug in the op: please report it".to_owned(),
        }
    }
}

impl From<FormatError> for OpError {
    fn from(error: FormatError) -> Self {
        OpError::Bug(format!(
            "an object of a dataset matches its digest but cannot be decoded: {error}"
        ))
    }
}

impl From<DuplicateId> for OpError {
    fn from(error: DuplicateId) -> Self {
        OpError::Bug(error.to_string())
    }
}

/// The ops and export formats an engine works with.
#[derive(Clone, Default)]
pub struct OpSet {
    ops: BTreeMap<&'static str, Arc<Op>>,
    exports: BTreeMap<&'static str, Arc<ExportOp>>,
    results: Vec<&'static str>,
}

impl OpSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an op; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.ops.insert(op.signature.name, Arc::new(op));
        self
    }

    /// Adds an export format; one of the same name is replaced.
    #[must_use]
    pub fn with_export(mut self, export: ExportOp) -> Self {
        self.exports.insert(export.format.name, Arc::new(export));
        self
    }

    /// Declares that stages of this type are results: they run without being asked for.
    #[must_use]
    pub fn with_result_type(mut self, ty: &'static str) -> Self {
        self.results.push(ty);
        self
    }

    pub fn op(&self, name: &str) -> Option<&Arc<Op>> {
        self.ops.get(name)
    }

    /// All ops, by name.
    pub fn ops(&self) -> impl Iterator<Item = &Arc<Op>> {
        self.ops.values()
    }

    pub fn export(&self, name: &str) -> Option<&Arc<ExportOp>> {
        self.exports.get(name)
    }

    /// The signatures that workflows are checked against.
    ///
    /// # Errors
    /// A mistake in a declaration.
    pub fn signatures(&self) -> Result<Signatures, SignatureError> {
        let ops = self.ops.values().map(|op| op.signature.clone()).collect();
        let formats = self
            .exports
            .values()
            .map(|export| export.format.clone())
            .collect();
        Signatures::new(ops, formats, self.results.clone())
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Op({} {})", self.signature.name, self.version)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Body::Config => "Config",
            Body::Run(_) => "Run",
            Body::Map(_) => "Map",
            Body::Compose(_) => "Compose",
        })
    }
}

impl fmt::Debug for ExportOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExportOp({} {})", self.format.name, self.version)
    }
}

impl fmt::Debug for OpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpSet")
            .field("ops", &self.ops.keys())
            .field("exports", &self.exports.keys())
            .finish()
    }
}
