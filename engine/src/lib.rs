//! An incremental workflow engine: a checked workflow goes in, results named by content come out,
//! nothing runs twice.
//!
//! The data flow is the reading order: [`Workflow::parse`] checks source text against an [`OpSet`]
//! and builds a [`graph::Graph`]; [`Engine::plan`] says what would run; [`Engine::run`] computes
//! keys when stages become ready ([`key`]), finds results in the [`cache`], runs what is missing,
//! and sends [`event::Event`]s to listeners. The engine knows no tensors and prints nothing.
//!
//! A program brings its own ops:
//!
//! ```
//! use blip_engine::{
//!     Config, Engine, IndexKind, NumericEnv, Op, OpSet, Output, Resources, RunOptions, Status,
//!     Workflow,
//! };
//! use blip_grammar::{Arg, Signature, Source, Type};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let signature = Signature::stage("greet", Type::Named("Text"), "Greets.")
//!     .arg(Arg::required("name", Type::Str, "who"));
//! let greet = Op::run(signature, 1, |ctx| {
//!     let text = format!("hello {}", ctx.args().string("name")?);
//!     Ok(Output::of(ctx.put(text.as_bytes())?))
//! });
//! let source = Source::new("hello.blip", "greeting = greet(\"world\")\n")?;
//! let workflow = Workflow::parse(&source, &OpSet::new().with(greet), &[]).unwrap();
//!
//! let folder = tempfile::tempdir()?;
//! let engine = Engine::new(Config {
//!     cache: folder.path().join(".blip"),
//!     base: folder.path().to_path_buf(),
//!     index: IndexKind::Memory,
//!     resources: Resources { cpu: 1, gpu: 0, memory: 1 << 30 },
//!     env: NumericEnv { fields: Vec::new() },
//! });
//! let first = engine.run(&workflow, &RunOptions::default(), &mut [])?;
//! assert_eq!(engine.read_output(&first, "greeting")?, b"hello world");
//! // The result is in the cache: nothing runs twice.
//! let second = engine.run(&workflow, &RunOptions::default(), &mut [])?;
//! assert_eq!(second.stages[0].status, Status::Reused);
//! # Ok(())
//! # }
//! ```

pub mod args;
pub mod cache;
pub mod ctx;
pub mod dataset;
pub mod diff;
pub mod digest;
mod engine;
pub mod event;
mod export;
pub mod files;
pub mod graph;
pub mod history;
pub mod isolate;
pub mod key;
pub mod lockfile;
mod map;
pub mod op;
pub mod plan;
mod prefetch;
pub mod publish;
mod result_map;
mod run;
pub mod space;
pub mod trace;
pub mod verify;
pub mod workflow;

pub use self::args::Args;
pub use self::cache::index::IndexKind;
pub use self::cache::ledger::Ledger;
pub use self::cache::records::{Record, RejectedItem};
pub use self::cache::stage_result::StageResult;
pub use self::ctx::{
    Dataset, DatasetWriter, StageCheckpoints, StageCtx, StopSignal, UpstreamStage,
};
pub use self::dataset::Item;
pub use self::digest::Digest;
pub use self::engine::{Config, Engine, EngineError, RunOptions, Summary, THREADS_HELP};
pub use self::event::{Event, Listener, Outcome, StageEnd, Status};
pub use self::files::{Files, InputFile, InputReader};
pub use self::graph::Graph;
pub use self::history::{CacheReader, RunLog};
pub use self::isolate::Isolation;
pub use self::key::NumericEnv;
pub use self::lockfile::{LockedStage, LockedWorkflow, Lockfile, LockfileError};
pub use self::op::{
    Artifact, Body, ExportOp, ExportSummary, ExportTarget, MapOp, MapWorker, Op, OpError, OpSet,
    Output, Step, UnitResult, Work,
};
pub use self::plan::{Planned, PlannedAction};
pub use self::prefetch::Prefetch;
pub use self::run::Resources;
pub use self::verify::{
    AffectedResult, Corruption, CorruptionKind, RepairReport, VerifyLevel, VerifyReport,
};
pub use self::workflow::{UnknownTarget, Workflow};
