//! What an op is to the engine: a signature, a version, and a body. The engine knows none by
//! itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blip_grammar::{Arguments, ExportFormat, Signature, SignatureError, Signatures, Type};
use serde::{Deserialize, Serialize};

use crate::args::Args;
use crate::cache::disk::DiskError;
use crate::cache::ledger::StageResult;
use crate::ctx::StageCtx;
use crate::dataset::{DuplicateId, FormatError, Item};
use crate::digest::Digest;
use crate::files::{Files, SourceFile};

/// An op.
#[derive(Clone)]
pub struct Op {
    /// What the language sees of it.
    pub signature: Signature,
    /// Raised whenever the same inputs give other bytes than before.
    pub version: u32,
    /// Whether bits depend on the machine: then [`NumericEnv`](crate::NumericEnv) is part of the
    /// key.
    pub numeric: bool,
    /// Lists the user's files it reads; their contents are part of the key.
    pub sources: Option<SourcesFn>,
    /// What it does.
    pub body: Body,
}

/// Lists the files a stage reads, when its key is made.
pub type SourcesFn =
    Arc<dyn Fn(&Args, &Files<'_>) -> Result<Vec<SourceFile>, OpError> + Send + Sync>;
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
    /// A piece of work with one result.
    Run(RunFn),
    /// One result per item, each cached.
    Map(MapFn),
    /// Other ops: each step is a stage of its own, the last one carries the name.
    Compose(fn(&Arguments) -> Vec<Step>),
}

impl Op {
    /// An op that runs as a whole. `version` is raised whenever the same inputs give other bytes
    /// than before.
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

    /// An op made of others.
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

    /// The same, its bits depending on the machine.
    #[must_use]
    pub fn numeric(self) -> Self {
        Self {
            numeric: true,
            ..self
        }
    }

    /// The same, reading the files that `sources` lists.
    #[must_use]
    pub fn reading(
        self,
        sources: impl Fn(&Args, &Files<'_>) -> Result<Vec<SourceFile>, OpError> + Send + Sync + 'static,
    ) -> Self {
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
    /// Its arguments, all of them but the one that takes the step before.
    pub args: Arguments,
    /// The argument that takes the result of the step before.
    pub previous: Option<&'static str>,
}

/// A form in which results leave the cache.
#[derive(Clone)]
pub struct ExportOp {
    /// What the language sees of it.
    pub format: ExportFormat,
    /// Raised whenever the same input is written differently.
    pub version: u32,
    /// Writes.
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
    /// How many items are in it.
    pub count: Option<u64>,
}

/// The result of a stage, as its consumers see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// Its type.
    pub ty: String,
    /// Its object.
    pub digest: Digest,
    /// The stage that made it.
    pub stage: String,
    /// How many items it has, where it has items.
    pub count: Option<u64>,
}

impl Artifact {
    pub(crate) fn of(stage: &str, ty: Type, finished: &StageResult) -> Self {
        Self {
            ty: ty.to_string(),
            digest: finished.output,
            stage: stage.to_owned(),
            count: finished.count,
        }
    }
}

/// The result of a stage, as its body gives it.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// An object, put by [`StageCtx::put`].
    pub digest: Digest,
    /// How many items it has, where it has items.
    pub count: Option<u64>,
    /// Numbers about it.
    pub metrics: Vec<(String, f64)>,
    /// By-products by name. They are outside the result's digest: consumers are not run again when
    /// only these change.
    pub side_outputs: Vec<(&'static str, Digest)>,
    /// What a reader should know: "17 duplicates dropped".
    pub notes: Vec<String>,
}

impl Output {
    /// A result without items, numbers or by-products.
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

/// A stage that makes one output item of every input item.
pub trait MapOp: Send {
    /// The argument that holds the dataset.
    fn input_arg(&self) -> &'static str;
    /// What the result for an item depends on, besides the stage's other arguments: one digest per
    /// cached unit of work.
    ///
    /// # Errors
    /// When the item cannot be understood.
    fn units(&self, item: &Item) -> Result<Vec<Digest>, OpError>;
    /// Arguments that say which units an item has, or how its result is put together, and that no
    /// unit's result depends on: another value of theirs costs only units that are new.
    fn args_outside_unit_key(&self) -> &'static [&'static str] {
        &[]
    }
    /// How many items [`MapWorker::process`] gets at a time, at most.
    fn batch(&self) -> usize;
    /// Loads what the work needs. Called once, and only when there is work.
    ///
    /// # Errors
    /// As the loading gives.
    fn worker(&self, ctx: &StageCtx) -> Result<Box<dyn MapWorker>, OpError>;
    /// The output item's payload from the results of its units. Pure.
    ///
    /// # Errors
    /// When the item or a result cannot be understood.
    fn assemble(&self, item: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError>;
}

/// Does the work of a map stage.
pub trait MapWorker {
    /// The results of the missing units of these items, in order: one list per item, one result per
    /// missing unit. Must not depend on which items come together.
    ///
    /// # Errors
    /// As the work gives; a single item that cannot be used is a [`UnitResult::Bad`] instead.
    fn process(&mut self, ctx: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError>;
}

/// An item with units that are not known yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Work {
    /// The item.
    pub item: Item,
    /// Which of its units are missing, ascending.
    pub missing: Vec<usize>,
}

/// What became of a unit of work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnitResult {
    /// Its result.
    Ok(Vec<u8>),
    /// It cannot be done, and why: rejected, and not tried again.
    Bad(String),
}

/// Why a stage has no result.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// Something the user can mend.
    #[error("{what}")]
    Failed {
        /// What is wrong, and where.
        what: String,
        /// What to do.
        help: String,
    },
    /// The run was asked to stop, or the stage's time is over.
    #[error("interrupted")]
    Interrupted,
    /// An object it needs is missing or damaged: it will be made again.
    #[error("the object {} is missing or damaged", .0.short())]
    Damaged(Digest),
    /// The cache's disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A mistake in the op.
    #[error("{0}")]
    Bug(String),
}

impl OpError {
    /// Something the user can mend.
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
            OpError::Interrupted => "run again to go on where it stopped".to_owned(),
            OpError::Damaged(_) => "run again: it is made anew".to_owned(),
            OpError::Disk(error) => error.help().to_owned(),
            OpError::Bug(_) => "this is a bug in the op: please report it".to_owned(),
        }
    }
}

impl From<FormatError> for OpError {
    fn from(error: FormatError) -> Self {
        OpError::Bug(format!(
            "a dataset's object has matching digest but cannot be read: {error}"
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
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// One op more; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.ops.insert(op.signature.name, Arc::new(op));
        self
    }

    /// One export format more.
    #[must_use]
    pub fn with_export(mut self, export: ExportOp) -> Self {
        self.exports.insert(export.format.name, Arc::new(export));
        self
    }

    /// Says that stages of this type are worth running for their own sake.
    #[must_use]
    pub fn with_result_type(mut self, ty: &'static str) -> Self {
        self.results.push(ty);
        self
    }

    /// The op of this name.
    pub fn op(&self, name: &str) -> Option<&Arc<Op>> {
        self.ops.get(name)
    }

    /// All ops, by name.
    pub fn ops(&self) -> impl Iterator<Item = &Arc<Op>> {
        self.ops.values()
    }

    /// The export format of this name.
    pub fn export(&self, name: &str) -> Option<&Arc<ExportOp>> {
        self.exports.get(name)
    }

    /// What the language needs to know of them.
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

/// The folder part and the name part of an export's path.
pub(crate) fn split_target(path: &Path) -> Option<(&Path, String)> {
    Some((
        path.parent().unwrap_or_else(|| Path::new("")),
        path.file_name()?.to_str()?.to_owned(),
    ))
}
