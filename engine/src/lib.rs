//! An incremental workflow engine: a checked workflow goes in, results named by content come out,
//! nothing runs twice.
//!
//! The data flow is the reading order: [`Workflow::parse`] checks source text against an [`OpSet`]
//! and makes a [`graph::Graph`]; [`Engine::plan`] says what would run; [`Engine::run`] makes keys
//! when stages become ready ([`key`]), finds results in the [`cache`], runs what is missing, and
//! tells [`event::Event`]s to listeners. The engine knows no tensors and prints nothing.

mod ahead;
pub mod args;
pub mod cache;
pub mod ctx;
pub mod dataset;
pub mod diff;
pub mod digest;
pub mod event;
mod export;
pub mod files;
pub mod graph;
pub mod history;
pub mod isolate;
pub mod key;
mod known;
pub mod lockfile;
mod map;
pub mod op;
pub mod plan;
mod run;
pub mod space;
pub mod trace;
pub mod verify;
pub mod workflow;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;

pub use self::ahead::Prefetch;
pub use self::args::Args;
use self::cache::disk::{Disk, DiskError};
pub use self::cache::index::IndexKind;
pub use self::cache::ledger::{Ledger, StageResult};
use self::cache::lock::Holder;
pub use self::cache::records::{Record, RejectedItem};
use self::cache::{Access, Cache, CacheError};
pub use self::ctx::{Ancestor, Dataset, DatasetWriter, StageCheckpoints, StageCtx, StopSignal};
pub use self::dataset::Item;
pub use self::digest::Digest;
use self::event::{Audience, LogWriter, StageError};
pub use self::event::{Event, Listener, Outcome, StageEnd, Status};
pub use self::files::{Files, SourceFile};
pub use self::graph::Graph;
pub use self::history::{Reader, RunLog};
pub use self::isolate::Isolation;
pub use self::key::NumericEnv;
pub use self::lockfile::{Locked, LockedStage, Lockfile, LockfileError};
pub use self::op::{
    Artifact, Body, ExportOp, ExportSummary, ExportTarget, MapOp, MapWorker, Op, OpError, OpSet,
    Output, Step, UnitResult, Work,
};
pub use self::plan::{Planned, PlannedAction};
pub use self::run::Resources;
pub use self::verify::{Affected, Damage, Level, Repaired, Report, Wrong};
pub use self::workflow::{UnknownTarget, Workflow};

/// What an engine works with. Every field is said: there are no defaults to be surprised by.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cache folder.
    pub cache: PathBuf,
    /// What paths of workflows are relative to.
    pub base: PathBuf,
    /// The kind of index.
    pub index: IndexKind,
    /// What bounds how much runs together.
    pub resources: Resources,
    /// What of the machine the bits of numeric results depend on.
    pub env: NumericEnv,
}

/// An engine. It holds nothing open between runs; several can live in one process.
#[derive(Clone, Debug)]
pub struct Engine {
    config: Config,
    disk: Disk,
    isolation: Option<Arc<Isolation>>,
}

/// How a workflow is run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Stages wanted, by name; none means what the workflow wants by itself.
    pub targets: Vec<String>,
    /// After a failure, go on with everything that does not need the stage.
    pub keep_going: bool,
    /// Fail instead of waiting for another process: with [`CacheError::Busy`] when it has the whole
    /// cache, else only the stages whose results it makes.
    pub no_wait: bool,
    /// Try items again that could not be used before. Without, their reasons are remembered.
    pub retry_bad: bool,
    /// What every stage has to come to; one that would come to something else fails and says where
    /// it deviates.
    pub locked: Option<Locked>,
    /// What [`Engine::prefetch`] found; without, the run looks by itself.
    pub ahead: Option<Prefetch>,
    /// Asks the run to stop.
    pub stop: StopSignal,
}

/// What a run came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// The run's id.
    pub run: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What all stages that have a result came to, by name; inputs before those that take them.
    pub results: IndexMap<Arc<str>, Arc<StageResult>>,
    /// How every stage ended, in the order in which they did.
    pub stages: Vec<Arc<StageEnd>>,
    /// How long it took.
    pub took_ms: u64,
}

/// Why a run or a plan could not begin.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A target does not exist.
    #[error(transparent)]
    Target(#[from] UnknownTarget),
    /// The event log cannot be made.
    #[error("could not begin the event log: {0}")]
    Log(#[source] DiskError),
}

impl EngineError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            EngineError::Cache(error) => error.help(),
            EngineError::Target(error) => format!("it has {}", error.known.join(", ")),
            EngineError::Log(error) => error.help().to_owned(),
        }
    }
}

impl Engine {
    /// An engine on a cache, which is made by the first run if there is none.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            disk: Disk::default(),
            isolation: None,
        }
    }

    /// The same on a disk that fails on purpose.
    #[must_use]
    pub fn with_disk(self, disk: Disk) -> Self {
        Self { disk, ..self }
    }

    /// The same with a way to run stages marked `@isolate` in processes of their own.
    #[must_use]
    pub fn with_isolation(self, isolation: Isolation) -> Self {
        Self {
            isolation: Some(Arc::new(isolation)),
            ..self
        }
    }

    /// Reads what earlier runs left, also while one is going.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.config.cache)
    }

    /// Begins to look up, in a thread of its own, what the last run of the workflow of this name
    /// came to and what of that is still there. To be called before the workflow is parsed, and to
    /// be handed on in [`RunOptions`].
    pub fn prefetch(&self, workflow: &str) -> Prefetch {
        let (folder, disk) = (self.config.cache.clone(), self.disk.clone());
        let open = move || {
            Some(
                Cache::open(&folder, IndexKind::Memory, disk, Access::Read, |_| false)
                    .ok()?
                    .cache,
            )
        };
        Prefetch::begin(&self.config.cache, workflow, open)
    }

    /// What a run would do and why.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn plan(
        &self,
        workflow: &Workflow,
        targets: &[String],
    ) -> Result<Vec<Planned>, EngineError> {
        let mut targets = workflow.targets(targets)?;
        targets.extend(self.export_stages(workflow, &targets));
        let cache = Cache::open(
            &self.config.cache,
            self.config.index,
            self.disk.clone(),
            Access::Read,
            |_| true,
        )?
        .cache;
        let planner = plan::Planner {
            graph: &workflow.graph,
            workflow: &workflow.name,
            base: self.config.base.clone(),
            cache: Arc::new(cache),
            env: Arc::new(self.config.env.clone()),
        };
        Ok(planner.plan(&targets))
    }

    fn export_stages(&self, workflow: &Workflow, targets: &[graph::NodeId]) -> Vec<graph::NodeId> {
        let wanted = workflow
            .graph
            .exports()
            .map(|(_, stage)| stage)
            .filter(|stage| targets.contains(stage));
        wanted.collect()
    }

    /// Runs a workflow. What is known is not run again.
    ///
    /// # Errors
    /// [`EngineError`] when the run cannot begin; stages that fail are in the [`Summary`].
    pub fn run(
        &self,
        workflow: &Workflow,
        options: &RunOptions,
        listeners: &mut [&mut dyn Listener],
    ) -> Result<Summary, EngineError> {
        let started = Instant::now();
        let targets = workflow.targets(&options.targets)?;
        let opened = self.open(options, listeners)?;
        let cache = Arc::new(opened.cache);
        let (run, mut log) = begin_log(cache.disk(), &self.config.cache)?;
        let mut audience = Audience {
            started,
            listeners: vec![&mut log],
        };
        audience.listeners.extend(
            listeners
                .iter_mut()
                .map(|listener| &mut **listener as &mut dyn Listener),
        );
        let wanted = workflow.graph.closure(&targets);
        audience.tell(&started_event(workflow, &wanted, &run));
        for text in opened.notes {
            audience.tell(&Event::Warning { stage: None, text });
        }
        let config = run::RunConfig {
            base: self.config.base.clone(),
            cache: Arc::clone(&cache),
            env: Arc::new(self.config.env.clone()),
            resources: self.config.resources,
            workflow: workflow.name.clone(),
            keep_going: options.keep_going,
            no_wait: options.no_wait,
            retry_bad: options.retry_bad,
            locked: options.locked.clone(),
            isolation: self.isolation.clone(),
            stop: options.stop.clone(),
        };
        let looked = options
            .ahead
            .as_ref()
            .and_then(|ahead| ahead.take(&self.config.cache, &workflow.name));
        let ended = run::run(&workflow.graph, wanted, config, looked, &mut audience);
        let mut outcome = ended.outcome;
        if !self.exports(workflow, &targets, &ended, &cache, &mut audience) {
            outcome = Outcome::Failed;
        }
        cache.flush();
        let took_ms = audience.elapsed_ms();
        audience.tell(&Event::RunFinished { outcome, took_ms });
        drop(audience);
        let result = |id: graph::NodeId| {
            Some((
                Arc::clone(&workflow.graph.node(id).name),
                Arc::clone(ended.finished(id)?),
            ))
        };
        let mut results = IndexMap::with_capacity(workflow.graph.len());
        results.extend(workflow.graph.ids().filter_map(result));
        Ok(Summary {
            run,
            outcome,
            results,
            stages: ended.ends,
            took_ms,
        })
    }

    fn open(
        &self,
        options: &RunOptions,
        listeners: &mut [&mut dyn Listener],
    ) -> Result<cache::Opened, EngineError> {
        let mut told = false;
        let waiting = |holder: &Holder| {
            if !told {
                let Holder { pid, host, since } = holder.clone();
                let event = Event::Waiting {
                    stage: None,
                    pid,
                    host,
                    since,
                };
                listeners
                    .iter_mut()
                    .for_each(|listener| listener.event(0, &event));
                told = true;
            }
            !options.no_wait && !options.stop.is_requested()
        };
        Ok(Cache::open(
            &self.config.cache,
            self.config.index,
            self.disk.clone(),
            Access::Run,
            waiting,
        )?)
    }

    /// Writes the exports of the stages that were wanted; false if one failed.
    fn exports(
        &self,
        workflow: &Workflow,
        targets: &[graph::NodeId],
        ended: &run::Ended,
        cache: &Arc<Cache>,
        audience: &mut Audience<'_>,
    ) -> bool {
        let mut good = true;
        for (export, id) in workflow
            .graph
            .exports()
            .filter(|(_, id)| targets.contains(id))
        {
            let (Some(finished), Some(op)) =
                (ended.finished(id), workflow.ops.export(export.format))
            else {
                continue;
            };
            let job = export::ExportJob {
                export,
                op,
                base: &self.config.base,
                cache,
            };
            let node = workflow.graph.node(id);
            let ctx = run::export_ctx(&workflow.graph, id, ended, cache, &self.config);
            // It may take long: what happened so far is told before.
            audience.idle();
            let written = job.write(&ctx, &Artifact::of(&node.name, node.output, finished));
            let stage = Arc::from(export.name.as_str());
            let (format, path) = (export.format.to_owned(), export.path.clone());
            let event = match written {
                Ok(written) => Event::Exported {
                    stage,
                    format,
                    path,
                    written,
                },
                Err(error) => {
                    good = false;
                    Event::ExportFailed {
                        stage,
                        format,
                        path,
                        error: StageError {
                            what: error.to_string(),
                            help: error.help(),
                        },
                    }
                }
            };
            audience.tell(&event);
        }
        good
    }

    /// The bytes of a stage's result.
    ///
    /// # Errors
    /// [`OpError`] when the run gave none, or it is damaged.
    pub fn read_output(&self, summary: &Summary, stage: &str) -> Result<Vec<u8>, OpError> {
        let finished = summary.results.get(stage).ok_or_else(|| {
            OpError::failed(
                format!("the run has no result for `{stage}`"),
                "name a stage that it ran or reused",
            )
        })?;
        self.reader()
            .object(&finished.output)
            .map_err(ctx::object_error)
    }

    /// What a run came to, for a lock file.
    pub fn locked(&self, summary: &Summary) -> Locked {
        let results = summary
            .results
            .iter()
            .map(|(name, finished)| (name.as_ref(), finished.as_ref()));
        Locked::of(&self.config.env, results)
    }

    /// The cache folder.
    pub fn cache_folder(&self) -> &Path {
        &self.config.cache
    }
}

fn started_event(workflow: &Workflow, wanted: &[graph::NodeId], run: &str) -> Event {
    let stages = wanted
        .iter()
        .map(|id| Arc::clone(&workflow.graph.node(*id).name))
        .collect();
    let params = workflow
        .program
        .params
        .iter()
        .map(|param| (param.name.clone(), param.value.to_string()))
        .collect();
    Event::RunStarted {
        run: run.to_owned(),
        workflow: workflow.name.clone(),
        stages,
        params,
        pid: std::process::id(),
    }
}

/// Begins a run: its id, which sorts by time, and its log. The process id keeps two runs of one
/// millisecond apart.
fn begin_log(disk: &Disk, cache: &Path) -> Result<(String, LogWriter), EngineError> {
    let mut now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis());
    loop {
        let run = format!("{now:014}-{}", std::process::id());
        let folder = cache.join("runs").join(&run);
        // Two engines of one process may work in one cache.
        if !folder.exists() {
            disk.create_folder(&folder).map_err(EngineError::Log)?;
            return Ok((
                run,
                LogWriter::create(disk, &folder).map_err(EngineError::Log)?,
            ));
        }
        now += 1;
    }
}
