//! A run: one thread owns the state of every stage; workers do the work and report by message.
//!
//! What a stage may do next is kept in queues ([`queues`]), so that the owner never looks at a
//! stage that has nothing to do. A stage that has run is `Committing`: downstream stages may start,
//! and its own end is announced when its record is on disk. Commits are written in batches by a
//! thread of their own ([`commit`]).

mod commit;
mod export_ctx;
mod failure;
mod finish;
mod lock_check;
mod probe;
mod queues;
mod reasons;
mod resources;
mod side_outputs;
mod stage;
mod start;
mod state;
pub(crate) mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};

use self::commit::Commit;
pub(crate) use self::export_ctx::export_ctx;
use self::queues::Queues;
pub(crate) use self::reasons::reasons_to_run;
pub use self::resources::Resources;
pub(crate) use self::side_outputs::upstream_side_outputs;
use self::stage::{InFlight, Stage};
use self::state::State;
use self::worker::{Completion, Task};
use crate::cache::Cache;
use crate::cache::ledger::Ledger;
use crate::cache::stage_result::StageResult;
use crate::ctx::StopSignal;
use crate::digest::Digest;
use crate::event::{Event, EventBus, Outcome, StageEnd};
use crate::graph::{Graph, NodeId};
use crate::isolate::Isolation;
use crate::key::NumericEnv;
use crate::lockfile::LockedWorkflow;
use crate::prefetch::{CacheScan, PrefetchedScan};
use crate::result_map::ResultMap;

/// The longest that the owner waits for a message before it checks for a request to stop and for
/// expired timers.
const TICK: Duration = Duration::from_millis(50);
/// The capacity of the channels of tasks, completions and events of stages. Workers never get
/// further ahead of the owner.
const CHANNEL_CAPACITY: usize = 256;
/// The most tasks that workers have at a time. Below the channel's capacity, so that the owner
/// never waits for a worker that waits for the owner.
const PENDING_TASKS_MAX: usize = CHANNEL_CAPACITY / 2;
/// The most stages whose records are not on disk yet; each may hold a lease, which is an open file.
const COMMITTING_MAX: usize = 256;

/// What a run needs to know besides the graph.
pub(crate) struct RunConfig {
    pub(crate) base: PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
    pub(crate) resources: Resources,
    pub(crate) workflow: String,
    pub(crate) keep_going: bool,
    pub(crate) no_wait: bool,
    pub(crate) retry_bad: bool,
    pub(crate) locked: Option<LockedWorkflow>,
    pub(crate) repair: Option<Arc<BTreeSet<Digest>>>,
    pub(crate) isolation: Option<Arc<Isolation>>,
    pub(crate) stop: StopSignal,
}

/// The owner of a run's state.
pub(crate) struct Run<'a, 'l> {
    graph: &'a Graph,
    config: RunConfig,
    wanted: Vec<NodeId>,
    /// By the stage's number; nothing for those that are not wanted.
    stages: Vec<Option<Stage>>,
    queues: Queues,
    free: Resources,
    /// Tasks that have been sent to workers and not come back.
    pending_tasks: usize,
    /// Stages whose records are on their way to the disk.
    committing: usize,
    /// Stages that failed…
    failed: usize,
    /// …and those of them that another process computes, for which this run does not wait.
    computed_elsewhere: usize,
    content_paths: Arc<BTreeMap<Digest, PathBuf>>,
    /// Further files that the run reads, with the bytes of one in `content_paths`.
    same_content: BTreeMap<Digest, BTreeSet<PathBuf>>,
    ledger: Ledger,
    /// Whether the ledger could not be read: one that is there must not be replaced then.
    ledger_is_unreadable: bool,
    /// Those of the ledger that are still in the cache, and those whose records this run has read.
    /// What the run itself computes is read back should another stage have the same key, which is
    /// seldom.
    results: ResultMap,
    any_side_outputs: bool,
    /// Stages that were rebuilding, with the results that turned out to be corrupt.
    rebuilding: BTreeMap<NodeId, Arc<StageResult>>,
    /// Pairs of a stage that is being rebuilt, and one that waits for it without being a direct
    /// consumer.
    rebuild_waiters: Vec<(NodeId, NodeId)>,
    ends: Vec<Arc<StageEnd>>,
    event_bus: &'a mut EventBus<'l>,
    /// Nothing once the threads are to end.
    channels: Option<(Sender<Task>, Sender<Commit>)>,
    /// What stages report while they run.
    stage_events: (Sender<Event>, Receiver<Event>),
}

/// How a run ended, and the results of its stages.
pub(crate) struct RunOutcome {
    pub(crate) outcome: Outcome,
    /// Whether stages failed only because another process computes them.
    pub(crate) is_busy: bool,
    /// By the stage's number.
    results: Vec<Option<Arc<StageResult>>>,
    /// In the order in which the stages ended.
    pub(crate) ends: Vec<Arc<StageEnd>>,
    pub(crate) content_paths: Arc<BTreeMap<Digest, PathBuf>>,
    /// Further files that the run has read, with the bytes of one in `content_paths`.
    same_content: BTreeMap<Digest, BTreeSet<PathBuf>>,
}

impl RunOutcome {
    pub(crate) fn result(&self, id: NodeId) -> Option<&Arc<StageResult>> {
        self.results.get(id.index())?.as_ref()
    }

    /// The files with these bytes that the run has read.
    pub(crate) fn inputs(&self, digest: &Digest) -> impl Iterator<Item = &PathBuf> {
        let further = self.same_content.get(digest).into_iter().flatten();
        self.content_paths.get(digest).into_iter().chain(further)
    }
}

/// Runs the `wanted` stages, which are ascending and complete: all upstream stages are among them.
///
/// # Errors
/// A thread cannot be started. No stage ran.
pub(crate) fn run(
    graph: &Graph,
    wanted: Vec<NodeId>,
    config: RunConfig,
    prefetched: Option<PrefetchedScan>,
    event_bus: &mut EventBus<'_>,
) -> io::Result<RunOutcome> {
    let cache = Arc::clone(&config.cache);
    let worker_count = config.resources.cpu.max(1) as usize + 1;
    let (tasks_in, tasks_out) = channel::bounded::<Task>(CHANNEL_CAPACITY);
    let (completions_in, completions_out) = channel::bounded::<Completion>(CHANNEL_CAPACITY);
    // Unbounded, since the owner must never wait for a thread that waits for the owner. It keeps to
    // COMMITTING_MAX by itself.
    let (commits_in, commits_out) = channel::unbounded::<Commit>();
    let channels = (tasks_in, commits_in);
    let mut run = Run::new(graph, wanted, config, prefetched, event_bus, channels);
    std::thread::scope(|scope| {
        let start = || {
            for _ in 0..worker_count {
                let (tasks, completions) = (tasks_out.clone(), completions_in.clone());
                let work = move || worker::run_tasks(&tasks, &completions);
                Builder::new().spawn_scoped(scope, work)?;
            }
            let completions = completions_in.clone();
            let commit = move || commit::run_commits(&cache, &commits_out, &completions);
            Builder::new().spawn_scoped(scope, commit).map(drop)
        };
        let started = start();
        drop((tasks_out, completions_in));
        if started.is_ok() {
            run.run_event_loop(&completions_out);
        }
        // The threads end when their channels are closed.
        run.channels = None;
        started
    })?;
    Ok(run.finish())
}

/// The scan that was prefetched, or one made now.
fn scan_of(
    graph: &Graph,
    wanted: &[NodeId],
    config: &RunConfig,
    prefetched: Option<PrefetchedScan>,
) -> CacheScan {
    if let Some(prefetched) = prefetched {
        return prefetched.scan;
    }
    let is_wanted = |name: &str| {
        graph
            .find(name)
            .is_some_and(|id| wanted.binary_search(&id).is_ok())
    };
    CacheScan::new(&config.cache, &config.workflow, is_wanted)
}

impl<'a, 'l> Run<'a, 'l> {
    fn new(
        graph: &'a Graph,
        wanted: Vec<NodeId>,
        config: RunConfig,
        prefetched: Option<PrefetchedScan>,
        event_bus: &'a mut EventBus<'l>,
        channels: (Sender<Task>, Sender<Commit>),
    ) -> Self {
        let mut stages = Vec::with_capacity(graph.len());
        stages.resize_with(graph.len(), || None);
        for id in &wanted {
            if let Some(slot) = stages.get_mut(id.index()) {
                *slot = Some(Stage::new(graph, *id));
            }
        }
        let CacheScan {
            ledger,
            results,
            ledger_error,
        } = scan_of(graph, &wanted, &config, prefetched);
        if let Some(error) = &ledger_error {
            let text = format!("{error}; every result is looked up by itself");
            event_bus.emit(&Event::Warning { stage: None, text });
        }
        Self {
            graph,
            stages,
            queues: Queues::default(),
            free: config.resources,
            config,
            pending_tasks: 0,
            committing: 0,
            failed: 0,
            computed_elsewhere: 0,
            content_paths: Arc::default(),
            same_content: BTreeMap::new(),
            ledger,
            ledger_is_unreadable: ledger_error.is_some(),
            results,
            any_side_outputs: false,
            rebuilding: BTreeMap::new(),
            rebuild_waiters: Vec::new(),
            ends: Vec::with_capacity(wanted.len()),
            wanted,
            event_bus,
            channels: Some(channels),
            stage_events: channel::bounded(CHANNEL_CAPACITY),
        }
    }
}

impl Run<'_, '_> {
    fn run_event_loop(&mut self, completions: &Receiver<Completion>) {
        for id in self.wanted.clone() {
            self.wake(id);
        }
        let events = self.stage_events.1.clone();
        loop {
            self.dispatch();
            if self.has_nothing_to_wait_for() {
                break;
            }
            self.event_bus.idle();
            channel::select! {
                recv(completions) -> completion => {
                    if let Ok(completion) = completion {
                        self.handle_completion(completion);
                    }
                }
                recv(events) -> event => {
                    if let Ok(event) = event {
                        self.emit(event);
                    }
                }
                default(TICK) => {}
            }
            while let Ok(completion) = completions.try_recv() {
                self.handle_completion(completion);
            }
        }
        self.drain_stage_events();
    }

    fn has_nothing_to_wait_for(&self) -> bool {
        let will_dispatch_more = !self.is_halted() && self.queues.has_timers();
        self.pending_tasks == 0 && self.committing == 0 && !will_dispatch_more
    }

    fn handle_completion(&mut self, completion: Completion) {
        // A stage sent its events before it completed: they are announced before its end.
        self.drain_stage_events();
        match completion {
            Completion::Probed(id, probe) => {
                self.pending_tasks -= 1;
                self.handle_probe(id, probe);
            }
            Completion::Ran(id, execution) => {
                self.pending_tasks -= 1;
                self.handle_execution(id, *execution);
            }
            Completion::Committed(commits) => {
                for (id, result) in commits {
                    self.handle_commit(id, result);
                }
            }
        }
    }

    fn drain_stage_events(&mut self) {
        while let Ok(event) = self.stage_events.1.try_recv() {
            self.emit(event);
        }
    }

    fn emit(&mut self, event: Event) {
        self.event_bus.emit(&event);
        for text in self.config.cache.take_notes() {
            self.event_bus.emit(&Event::Warning { stage: None, text });
        }
    }

    /// A stage that is wanted.
    fn stage(&mut self, id: NodeId) -> &mut Stage {
        self.wanted_stage(id)
            .expect("every stage that is handled is wanted")
    }

    /// A stage, if it is wanted.
    fn wanted_stage(&mut self, id: NodeId) -> Option<&mut Stage> {
        self.stages.get_mut(id.index())?.as_mut()
    }

    fn result(&self, id: NodeId) -> Option<&Arc<StageResult>> {
        self.stages.get(id.index())?.as_ref()?.result.as_ref()
    }

    fn in_flight(&mut self, id: NodeId) -> &mut InFlight {
        self.stage(id).in_flight.get_or_insert_default()
    }

    fn is_halted(&self) -> bool {
        self.config.stop.is_requested() || (self.failed > 0 && !self.config.keep_going)
    }

    /// A waiting stage whose inputs all have results becomes ready.
    fn wake(&mut self, id: NodeId) {
        let stage = self.stage(id);
        if stage.state == State::Waiting && stage.open_inputs == 0 {
            stage.state.transition_to(State::Ready);
            self.queues.push_ready(id);
        }
    }

    /// Hands out everything that can go on. Timers first, since those stages have waited longest;
    /// keys before starts, since a key is cheap and may show that nothing has to run.
    fn dispatch(&mut self) {
        while !self.is_halted() && self.pending_tasks < PENDING_TASKS_MAX {
            if let Some(id) = self.queues.pop_expired() {
                self.wait_for_resources(id);
            } else if let Some(id) = self.queues.pop_ready() {
                self.probe(id);
            } else if self.committing < COMMITTING_MAX
                && let Some((id, amount)) = self.queues.pop_fitting(&mut self.free)
            {
                self.start(id, amount);
            } else {
                break;
            }
        }
    }

    fn send_task(&mut self, task: Task) {
        self.pending_tasks += 1;
        let (tasks, _) = self
            .channels
            .as_ref()
            .expect("tasks are handed out only while the workers live");
        tasks
            .send(task)
            .expect("workers live until the owner drops the channel");
    }

    /// Notifies the consumers of a stage, and those that wait for its rebuild, that it has its
    /// result. Once for each result: a stage that has run would otherwise count twice, when it runs
    /// and when a failed commit is tried again.
    fn notify_downstream(&mut self, id: NodeId, ran: bool) {
        let stage = self.stage(id);
        if std::mem::replace(&mut stage.downstream_notified, true) {
            return;
        }
        let ran = ran || stage.upstream_ran;
        self.rebuilding.remove(&id);
        let consumers = self.graph.consumers(id);
        for consumer in &consumers {
            if let Some(stage) = self.wanted_stage(*consumer) {
                stage.upstream_ran |= ran;
            }
        }
        let waiters: Vec<NodeId> = self
            .rebuild_waiters
            .extract_if(.., |(producer, _)| *producer == id)
            .map(|(_, waiter)| waiter)
            .collect();
        for id in consumers.into_iter().chain(waiters) {
            if let Some(stage) = self.wanted_stage(id) {
                stage.open_inputs = stage.open_inputs.saturating_sub(1);
                self.wake(id);
            }
        }
    }
}
