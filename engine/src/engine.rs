//! The engine: what it is made with, and what it does with a workflow.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use indexmap::IndexMap;

use crate::cache::disk::{Disk, DiskError};
use crate::cache::identity::is_run_id;
use crate::cache::index::IndexKind;
use crate::cache::lock::Holder;
use crate::cache::stage_result::StageResult;
use crate::cache::{Access, Cache, CacheError, Opened};
use crate::ctx::{self, StopSignal};
use crate::digest::Digest;
use crate::event::{Event, EventBus, Listener, LogWriter, Outcome, StageEnd};
use crate::export::Exporter;
use crate::graph::NodeId;
use crate::history::CacheReader;
use crate::isolate::Isolation;
use crate::key::NumericEnv;
use crate::lockfile::LockedWorkflow;
use crate::op::OpError;
use crate::plan::{Planned, Planner};
use crate::prefetch::Prefetch;
use crate::run::{self, Resources, RunConfig, RunOutcome};
use crate::workflow::{UnknownTarget, Workflow};

/// What an engine works with. There are no defaults: a forgotten field would be a surprise.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cache folder; the first run creates it.
    pub cache: PathBuf,
    /// What paths of workflows are relative to.
    pub base: PathBuf,
    pub index: IndexKind,
    /// What all stages that run at a time may take together.
    pub resources: Resources,
    /// The properties of the machine that the bits of numeric results depend on.
    pub env: NumericEnv,
}

/// Plans and runs workflows. It holds nothing open between runs; several can live in one process.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) disk: Disk,
    isolation: Option<Arc<Isolation>>,
}

/// How a workflow is run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The stages to run, by name; none means the workflow's default targets.
    pub targets: Vec<String>,
    /// After a failure, go on with everything that is not downstream of it.
    pub keep_going: bool,
    /// Fail instead of waiting for another process: with [`CacheError::Busy`] if it has the whole
    /// cache, else only those stages whose results it computes.
    pub no_wait: bool,
    /// Try rejected items again. Without, their reasons are remembered.
    pub retry_bad: bool,
    /// Replace files that no export wrote, or that were changed since. Without, a run that would
    /// have to do so does not begin.
    pub overwrite: bool,
    /// The key and result that every stage must have; one that would have others fails and says in
    /// what they differ.
    pub locked: Option<LockedWorkflow>,
    /// A scan begun by [`Engine::prefetch`]; without, the run scans the cache by itself.
    pub prefetch: Option<Prefetch>,
    /// Compute only results with these keys, and export nothing: what a verification found
    /// incomplete. A stage that would compute another one fails.
    pub repair: Option<Arc<BTreeSet<Digest>>>,
    /// Asks the run to stop.
    pub stop: StopSignal,
}

/// How a run ended, and the results of its stages.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// The run's id.
    pub run: String,
    pub outcome: Outcome,
    /// Whether the run failed only because another process computes results of its stages, for
    /// which [`RunOptions::no_wait`] does not wait.
    pub is_busy: bool,
    /// The results of all stages that have one, by name; inputs before their consumers.
    pub results: IndexMap<Arc<str>, Arc<StageResult>>,
    /// How every stage ended, in the order in which they did.
    pub stages: Vec<Arc<StageEnd>>,
    pub took_ms: u64,
}

/// What to do where a thread could not be started.
pub const THREADS_HELP: &str =
    "raise the limit of processes and threads (`ulimit -u`), or lower --jobs";

/// Why a run or a plan could not begin.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Target(#[from] UnknownTarget),
    #[error("could not create the event log: {0}")]
    Log(#[source] DiskError),
    #[error("could not start a thread: {0}")]
    Threads(#[source] io::Error),
    /// Something stands where an export would be written.
    #[error(transparent)]
    Export(OpError),
}

impl EngineError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            EngineError::Cache(error) => error.help(),
            EngineError::Target(error) => format!("the workflow has {}", error.known.join(", ")),
            EngineError::Log(error) => error.help().to_owned(),
            EngineError::Threads(_) => THREADS_HELP.to_owned(),
            EngineError::Export(error) => error.help(),
        }
    }
}

impl Engine {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            disk: Disk::default(),
            isolation: None,
        }
    }

    /// The same engine on another disk: tests use one with injected faults.
    #[must_use]
    pub fn with_disk(self, disk: Disk) -> Self {
        Self { disk, ..self }
    }

    /// The same engine with a way to run stages marked `@isolate` in processes of their own.
    #[must_use]
    pub fn with_isolation(self, isolation: Isolation) -> Self {
        Self {
            isolation: Some(Arc::new(isolation)),
            ..self
        }
    }

    /// Reads what earlier runs left, also during a run.
    pub fn reader(&self) -> CacheReader {
        CacheReader::new(&self.config.cache)
    }

    /// Begins to look up, in a thread of its own, which results of earlier runs of the workflow
    /// with this name are still in the cache. Called before the workflow is parsed, and passed on
    /// in [`RunOptions`].
    pub fn prefetch(&self, workflow: &str) -> Prefetch {
        let (folder, disk) = (self.config.cache.clone(), self.disk.clone());
        let open = move || {
            // Without waiting: the run waits, and scans by itself then.
            let opened = Cache::open(&folder, IndexKind::Memory, disk, Access::Read, |_| false);
            Some(opened.ok()?.cache)
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
        targets.extend(export_stages(workflow, &targets));
        let opened = Cache::open(
            &self.config.cache,
            self.config.index,
            self.disk.clone(),
            Access::Read,
            |_| true,
        )?;
        let planner = Planner {
            graph: &workflow.graph,
            workflow: &workflow.name,
            base: self.config.base.clone(),
            cache: Arc::new(opened.cache),
            env: Arc::new(self.config.env.clone()),
        };
        Ok(planner.plan(&targets))
    }

    /// Runs a workflow. What has a result in the cache does not run.
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
        let exporter = self.exporter(workflow, options, &targets);
        exporter.check().map_err(EngineError::Export)?;
        let opened = self.open_to_run(options, listeners)?;
        let cache = Arc::new(opened.cache);
        let (run, mut log) = create_log(&cache)?;
        let mut event_bus = EventBus {
            started,
            listeners: Vec::new(),
        };
        if let Some(log) = &mut log {
            event_bus.listeners.push(log);
        }
        for listener in listeners.iter_mut() {
            event_bus.listeners.push(&mut **listener);
        }
        let wanted = workflow.graph.closure(&targets);
        event_bus.emit(&started_event(workflow, &wanted, &run));
        for text in opened.notes.into_iter().chain(note_on_access(&cache)) {
            event_bus.emit(&Event::Warning { stage: None, text });
        }
        let prefetched = options
            .prefetch
            .as_ref()
            .and_then(|prefetch| prefetch.take(&self.config.cache, &workflow.name));
        let config = self.run_config(workflow, options, &cache);
        let ran = run::run(&workflow.graph, wanted, config, prefetched, &mut event_bus);
        let run_outcome = ran.map_err(|error| {
            event_bus.emit(&Event::RunFinished {
                outcome: Outcome::Failed,
                took_ms: event_bus.elapsed_ms(),
            });
            EngineError::Threads(error)
        })?;
        let RunOutcome {
            mut outcome,
            mut is_busy,
            ..
        } = run_outcome;
        let failures = exporter.write(&run_outcome, &cache, &mut event_bus);
        if failures.all > 0 {
            let is_stopped = options.stop.is_requested() && failures.all == failures.busy;
            is_busy = failures.all == failures.busy && (is_busy || outcome == Outcome::Done);
            outcome = if is_stopped && outcome != Outcome::Failed {
                Outcome::Interrupted
            } else {
                Outcome::Failed
            };
        }
        cache.flush();
        let took_ms = event_bus.elapsed_ms();
        event_bus.emit(&Event::RunFinished { outcome, took_ms });
        // Waits until the event log is written.
        drop(event_bus);
        drop(log);
        Ok(Summary {
            run,
            outcome,
            is_busy,
            results: results_by_name(workflow, &run_outcome),
            stages: run_outcome.ends,
            took_ms,
        })
    }

    /// Finds what is in the way of the exports of a run.
    ///
    /// # Errors
    /// Those with which [`Engine::run`] would not begin.
    pub fn check_exports(
        &self,
        workflow: &Workflow,
        options: &RunOptions,
    ) -> Result<(), EngineError> {
        let targets = workflow.targets(&options.targets)?;
        let exporter = self.exporter(workflow, options, &targets);
        exporter.check().map_err(EngineError::Export)
    }

    fn exporter<'a>(
        &'a self,
        workflow: &'a Workflow,
        options: &'a RunOptions,
        targets: &'a [NodeId],
    ) -> Exporter<'a> {
        Exporter {
            config: &self.config,
            disk: &self.disk,
            workflow,
            targets: match options.repair {
                Some(_) => &[],
                None => targets,
            },
            options,
        }
    }

    fn run_config(
        &self,
        workflow: &Workflow,
        options: &RunOptions,
        cache: &Arc<Cache>,
    ) -> RunConfig {
        RunConfig {
            base: self.config.base.clone(),
            cache: Arc::clone(cache),
            env: Arc::new(self.config.env.clone()),
            resources: self.config.resources,
            workflow: workflow.name.clone(),
            keep_going: options.keep_going,
            no_wait: options.no_wait,
            retry_bad: options.retry_bad,
            locked: options.locked.clone(),
            repair: options.repair.clone(),
            isolation: self.isolation.clone(),
            stop: options.stop.clone(),
        }
    }

    /// Opens the cache to run in it. Listeners are notified once if this waits for another process;
    /// the run's own log is in the cache and does not exist yet.
    fn open_to_run(
        &self,
        options: &RunOptions,
        listeners: &mut [&mut dyn Listener],
    ) -> Result<Opened, EngineError> {
        let mut is_announced = false;
        let keep_waiting = |holder: &Holder| {
            if !is_announced {
                let Holder { pid, host, since } = holder.clone();
                let event = Event::Waiting {
                    stage: None,
                    pid,
                    host,
                    since,
                };
                for listener in listeners.iter_mut() {
                    listener.event(0, &event);
                }
                is_announced = true;
            }
            !options.no_wait && !options.stop.is_requested()
        };
        Ok(self.open_cache(keep_waiting)?)
    }

    /// Opens the cache to add to it or, where it cannot be written, to read it.
    pub(crate) fn open_cache(
        &self,
        mut keep_waiting: impl FnMut(&Holder) -> bool,
    ) -> Result<Opened, CacheError> {
        let mut open = |access| {
            let disk = self.disk.clone();
            let (folder, index) = (&self.config.cache, self.config.index);
            Cache::open(folder, index, disk, access, &mut keep_waiting)
        };
        match open(Access::Run) {
            Err(error) if error.is_read_only() && self.has_cache()? => open(Access::Read),
            opened => opened,
        }
    }

    /// The bytes of a stage's result.
    ///
    /// # Errors
    /// [`OpError`] when the run has none, or it is corrupt.
    pub fn read_output(&self, summary: &Summary, stage: &str) -> Result<Vec<u8>, OpError> {
        let Some(result) = summary.results.get(stage) else {
            return Err(OpError::failed(
                format!("the run has no result for `{stage}`"),
                "name a stage that it ran or reused",
            ));
        };
        let object = self.reader().object(&result.output);
        object.map_err(ctx::object_error)
    }

    /// The results of a run, for a lock file.
    pub fn locked(&self, summary: &Summary) -> LockedWorkflow {
        let results = summary
            .results
            .iter()
            .map(|(name, result)| (name.as_ref(), result.as_ref()));
        LockedWorkflow::of(&self.config.env, results)
    }

    pub fn cache_folder(&self) -> &Path {
        &self.config.cache
    }
}

/// The stages among `targets` that are exported.
fn export_stages(workflow: &Workflow, targets: &[NodeId]) -> Vec<NodeId> {
    workflow
        .graph
        .exports()
        .map(|(_, stage)| stage)
        .filter(|stage| targets.contains(stage))
        .collect()
}

fn results_by_name(
    workflow: &Workflow,
    outcome: &RunOutcome,
) -> IndexMap<Arc<str>, Arc<StageResult>> {
    let graph = &workflow.graph;
    let mut results = IndexMap::with_capacity(graph.len());
    for id in graph.ids() {
        if let Some(result) = outcome.result(id) {
            results.insert(Arc::clone(&graph.node(id).name), Arc::clone(result));
        }
    }
    results
}

fn started_event(workflow: &Workflow, wanted: &[NodeId], run: &str) -> Event {
    let mut stages = Vec::with_capacity(wanted.len());
    for id in wanted {
        stages.push(Arc::clone(&workflow.graph.node(*id).name));
    }
    let mut params = Vec::new();
    for param in &workflow.program.params {
        params.push((param.name.clone(), param.value.to_string()));
    }
    Event::RunStarted {
        run: run.to_owned(),
        workflow: workflow.name.clone(),
        stages,
        params,
        pid: std::process::id(),
    }
}

/// What a user should know of a cache that is only read.
fn note_on_access(cache: &Cache) -> Option<String> {
    (!cache.is_writable()).then(|| {
        format!(
            "the cache {} cannot be written: its results are used, and this run is not recorded",
            cache.folder().display()
        )
    })
}

/// Gives a run its id, and creates its log unless the cache is only read.
///
/// Ids sort by time, also after the clock was set back: the newest run has the last one. The
/// process id keeps runs of different processes apart that begin in the same millisecond.
fn create_log(cache: &Cache) -> Result<(String, Option<LogWriter>), EngineError> {
    let (disk, runs) = (cache.disk(), cache.folder().join("runs"));
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis());
    let ids = disk.list_names(&runs).map_err(EngineError::Log)?;
    let newest_ms = ids.iter().filter_map(|id| started_ms(id)).max();
    let mut time_ms = newest_ms.map_or(now_ms, |newest_ms| now_ms.max(newest_ms + 1));
    loop {
        let run = format!("{time_ms:014}-{}", std::process::id());
        if !cache.is_writable() {
            return Ok((run, None));
        }
        let folder = runs.join(&run);
        // Two engines of one process may work in one cache.
        if folder.exists() {
            time_ms += 1;
            continue;
        }
        disk.create_folder(&folder).map_err(EngineError::Log)?;
        let log = LogWriter::create(disk, &folder).map_err(EngineError::Log)?;
        return Ok((run, Some(log)));
    }
}

/// The time in a run's id.
fn started_ms(run: &str) -> Option<u128> {
    let (time, _) = run.split_once('-').filter(|_| is_run_id(run))?;
    time.parse().ok()
}
