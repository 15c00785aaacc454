//! A run: one thread owns the state of every stage, workers do the work and answer by message.
//!
//! What a stage may do next is kept in queues ([`queues`]), so that the owner never looks at a
//! stage that has nothing to do. A stage that has run is `Committing`: those below it may start,
//! and its own end is told when its record is on the disk. Commits are made in groups by a thread
//! of their own ([`committing`]).

mod committing;
mod failing;
mod locked;
mod queues;
mod resources;
mod side_outputs;
mod starting;
mod state;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blip_grammar::Type;
use crossbeam::channel::{self, Receiver, Sender};

use self::committing::Commit;
use self::queues::Queues;
pub use self::resources::Resources;
pub(crate) use self::side_outputs::{export_ctx, side_outputs};
use self::state::State;
use self::worker::{Answer, Job};
use crate::ahead::{Found, Looked};
use crate::cache::Cache;
use crate::cache::ledger::{Ledger, StageResult};
use crate::cache::lock::{Holder, LockFile};
use crate::cache::records::Record;
use crate::ctx::StopSignal;
use crate::digest::Digest;
use crate::event::{Audience, Event, Outcome, StageEnd, StageError, Status, UnitCounts};
use crate::files::SourceFile;
use crate::graph::{Graph, NodeId};
use crate::isolate::Isolation;
use crate::key::{KeyInputs, NumericEnv, differences};
use crate::known::Known;
use crate::lockfile::Locked;

/// The owner looks up at least this often, to hear of a request to stop.
const TICK: Duration = Duration::from_millis(50);
/// Jobs and answers on their way. Workers never outrun the owner by more.
const QUEUE: usize = 256;
/// Stages whose records are not on the disk yet; each may hold a lease, which is an open file.
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
    pub(crate) locked: Option<Locked>,
    pub(crate) isolation: Option<Arc<Isolation>>,
    pub(crate) stop: StopSignal,
}

/// What the owner knows of a stage. There are many: what a stage has only while it is in hand is
/// boxed or empty.
struct Stage {
    state: State,
    inputs_open: u32,
    attempt: u32,
    repairs: u32,
    /// A stage above it ran in this run.
    ran_above: bool,
    /// Those below it have been told of its result.
    told: bool,
    key: Option<Digest>,
    finished: Option<Arc<StageResult>>,
    took_ms: u64,
    in_hand: Option<Box<InHand>>,
}

/// What a stage has between its key and its end.
#[derive(Default)]
struct InHand {
    sources: Vec<SourceFile>,
    taken: Option<Resources>,
    units: Option<UnitCounts>,
    /// The right to run it; held from before it starts until its record is written.
    lease: Option<LockFile>,
    /// Who makes its result, once told.
    elsewhere: Option<Holder>,
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
    /// Jobs that workers have.
    in_flight: usize,
    /// Stages whose records are on their way to the disk.
    committing: usize,
    failed: bool,
    content_paths: Arc<BTreeMap<Digest, PathBuf>>,
    ledger: Ledger,
    /// Results by key: those of the ledger that are still there, and those whose records this run
    /// has read. What it makes itself is read again should another stage have the same key, which
    /// is seldom.
    known: Known,
    /// Whether any stage has by-products.
    any_sides: bool,
    /// Stages that wait for a stage that makes a damaged object again, and are no direct consumers
    /// of it.
    repairs: Vec<(NodeId, NodeId)>,
    /// Stages that make a damaged result again, with what they had.
    mending: BTreeMap<NodeId, Arc<StageResult>>,
    ends: Vec<Arc<StageEnd>>,
    audience: &'a mut Audience<'l>,
    channels: Option<(Sender<Job>, Sender<Commit>)>,
    events: (Sender<Event>, Receiver<Event>),
}

/// What a run came to.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// By the stage's number.
    finished: Vec<Option<Arc<StageResult>>>,
    pub(crate) ends: Vec<Arc<StageEnd>>,
    pub(crate) content_paths: Arc<BTreeMap<Digest, PathBuf>>,
}

impl Ended {
    /// What a stage came to.
    pub(crate) fn finished(&self, id: NodeId) -> Option<&Arc<StageResult>> {
        self.finished.get(id.index())?.as_ref()
    }
}

/// Runs these stages. With each of them those above it are wanted too.
pub(crate) fn run(
    graph: &Graph,
    wanted: Vec<NodeId>,
    config: RunConfig,
    looked: Option<Looked>,
    audience: &mut Audience<'_>,
) -> Ended {
    let mut stages: Vec<Option<Stage>> =
        std::iter::repeat_with(|| None).take(graph.len()).collect();
    for id in &wanted {
        if let Some(slot) = stages.get_mut(id.index()) {
            *slot = Some(Stage::new(distinct_inputs(graph, *id)));
        }
    }
    let is_wanted = |name: &str| {
        graph
            .find(name)
            .is_some_and(|id| wanted.binary_search(&id).is_ok())
    };
    let look = || Found::look(&config.cache, &config.workflow, is_wanted);
    let Found {
        ledger,
        there: known,
    } = looked.map_or_else(look, |looked| looked.found);
    let wanted_count = wanted.len();
    let (jobs_in, jobs_out) = channel::bounded::<Job>(QUEUE);
    let (answers_in, answers_out) = channel::bounded::<Answer>(QUEUE);
    // The owner bounds it by COMMITTING_MAX and must never wait for a thread that waits for the
    // owner.
    let (commits_in, commits_out) = channel::unbounded::<Commit>();
    let workers = config.resources.cpu.max(1) as usize + 1;
    let cache = Arc::clone(&config.cache);
    let mut run = Run {
        stages,
        queues: Queues::default(),
        free: config.resources,
        graph,
        config,
        wanted,
        in_flight: 0,
        committing: 0,
        failed: false,
        content_paths: Arc::default(),
        ledger,
        known,
        any_sides: false,
        repairs: Vec::new(),
        mending: BTreeMap::new(),
        ends: Vec::with_capacity(wanted_count),
        audience,
        channels: Some((jobs_in, commits_in)),
        events: channel::bounded(QUEUE),
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (jobs, answers) = (jobs_out.clone(), answers_in.clone());
            scope.spawn(move || worker::work(&jobs, &answers));
        }
        let answers = answers_in.clone();
        scope.spawn(move || committing::work(&cache, &commits_out, &answers));
        drop((jobs_out, answers_in));
        run.own(&answers_out);
        run.channels = None;
    });
    run.end()
}

/// How many stages a stage takes results of.
fn distinct_inputs(graph: &Graph, id: NodeId) -> u32 {
    let inputs = graph.inputs(id);
    if inputs.len() < 2 {
        return u32::from(!inputs.is_empty());
    }
    let mut inputs: Vec<NodeId> = inputs.iter().map(|(_, input)| *input).collect();
    inputs.sort_unstable();
    inputs.dedup();
    u32::try_from(inputs.len()).expect("a stage has fewer inputs")
}

impl Stage {
    fn new(inputs_open: u32) -> Self {
        Self {
            state: State::Waiting,
            inputs_open,
            attempt: 1,
            repairs: 0,
            ran_above: false,
            told: false,
            key: None,
            finished: None,
            took_ms: 0,
            in_hand: None,
        }
    }
}

impl Run<'_, '_> {
    /// The owner's loop.
    fn own(&mut self, answers: &Receiver<Answer>) {
        for id in self.wanted.clone() {
            self.wake(id);
        }
        let events = self.events.1.clone();
        loop {
            self.dispatch();
            if self.in_flight == 0
                && self.committing == 0
                && (self.halted() || !self.queues.anything_delayed())
            {
                break;
            }
            self.audience.idle();
            channel::select! {
                recv(answers) -> answer => if let Ok(answer) = answer { self.answered(answer) },
                recv(events) -> event => if let Ok(event) = event { self.emit(event) },
                default(TICK) => {}
            }
            while let Ok(answer) = answers.try_recv() {
                self.answered(answer);
            }
        }
        self.drain_events();
    }

    fn answered(&mut self, answer: Answer) {
        // What a stage said comes before its end.
        self.drain_events();
        match answer {
            Answer::Probed(id, probe) => {
                self.in_flight -= 1;
                self.probed(id, probe);
            }
            Answer::Ran(id, ran) => {
                self.in_flight -= 1;
                self.ran(id, *ran);
            }
            Answer::Committed(commits) => commits
                .into_iter()
                .for_each(|(id, result)| self.committed(id, result)),
        }
    }

    fn drain_events(&mut self) {
        while let Ok(event) = self.events.1.try_recv() {
            self.emit(event);
        }
    }

    fn emit(&mut self, event: Event) {
        self.audience.tell(&event);
        self.tell_notes();
    }

    fn tell_notes(&mut self) {
        for text in self.config.cache.take_notes() {
            self.audience.tell(&Event::Warning { stage: None, text });
        }
    }

    fn stage(&mut self, id: NodeId) -> &mut Stage {
        let stage = self.stages.get_mut(id.index()).and_then(Option::as_mut);
        stage.expect("every stage that is handled is wanted")
    }

    fn finished(&self, id: NodeId) -> Option<&Arc<StageResult>> {
        self.stages.get(id.index())?.as_ref()?.finished.as_ref()
    }

    fn in_hand(&mut self, id: NodeId) -> &mut InHand {
        self.stage(id).in_hand.get_or_insert_default()
    }

    fn halted(&self) -> bool {
        self.config.stop.is_requested() || (self.failed && !self.config.keep_going)
    }

    /// A waiting stage whose inputs all have results becomes ready.
    fn wake(&mut self, id: NodeId) {
        let stage = self.stage(id);
        if stage.state == State::Waiting && stage.inputs_open == 0 {
            stage.state.go(State::Ready);
            self.queues.ready(id);
        }
    }

    /// Hands out everything that can go on.
    fn dispatch(&mut self) {
        while !self.halted() && self.in_flight < QUEUE / 2 {
            if let Some(id) = self.queues.due() {
                self.stage(id).state.go(State::Queued);
                self.queue(id);
            } else if let Some(id) = self.queues.next_ready() {
                self.probe(id);
            } else if self.committing < COMMITTING_MAX
                && let Some((id, amount)) = self.queues.next_queued(&mut self.free)
            {
                self.start(id, amount);
            } else {
                break;
            }
        }
    }

    /// The stage waits for cores, a GPU or memory.
    fn queue(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        self.queues.queue(
            id,
            Resources::of(&node.op, &node.attributes, &self.config.resources),
        );
    }

    fn send(&mut self, job: Job) {
        self.in_flight += 1;
        let (jobs, _) = self
            .channels
            .as_ref()
            .expect("jobs are handed out only while the workers live");
        jobs.send(job)
            .expect("workers live until the owner lets go of the jobs");
    }

    /// Whether a result is as good as the run wants it.
    fn suffices(&self, finished: &StageResult) -> bool {
        finished.rejected == 0 || !self.config.retry_bad
    }

    /// A stage has its result: those below it may go on.
    fn tell_below(&mut self, id: NodeId, ran: bool) {
        let stage = self.stage(id);
        if std::mem::replace(&mut stage.told, true) {
            return;
        }
        let ran = ran || stage.ran_above;
        self.mending.remove(&id);
        let consumers = self.graph.consumers(id);
        for consumer in &consumers {
            if let Some(stage) = self
                .stages
                .get_mut(consumer.index())
                .and_then(Option::as_mut)
            {
                stage.ran_above |= ran;
            }
        }
        let repaired: Vec<NodeId> = self
            .repairs
            .extract_if(.., |(producer, _)| *producer == id)
            .map(|(_, consumer)| consumer)
            .collect();
        for consumer in consumers.into_iter().chain(repaired) {
            if let Some(stage) = self
                .stages
                .get_mut(consumer.index())
                .and_then(Option::as_mut)
            {
                stage.inputs_open = stage.inputs_open.saturating_sub(1);
                self.wake(consumer);
            }
        }
    }

    /// The result of a stage is known for good.
    fn remember(&mut self, id: NodeId, finished: Arc<StageResult>) {
        self.any_sides |= !finished.side_outputs.is_empty();
        self.stage(id).finished = Some(finished);
    }

    fn end_stage(&mut self, id: NodeId, status: Status, error: Option<StageError>) {
        let node = self.graph.node(id);
        let (name, op) = (Arc::clone(&node.name), node.op.signature.name.into());
        let ty = match node.output {
            Type::Named(name) => name.into(),
            ty => ty.to_string().into(),
        };
        let stage = self.stage(id);
        stage.state.go(State::Ended(status));
        let finished = stage.finished.as_deref();
        let end = StageEnd {
            stage: name,
            op,
            status,
            key: stage.key,
            output: finished.map(|finished| finished.output),
            ty,
            count: finished.and_then(|finished| finished.count),
            units: stage
                .in_hand
                .as_ref()
                .and_then(|in_hand| in_hand.units)
                .map(Box::new),
            metrics: finished.map_or(Box::default(), |finished| finished.metrics.clone()),
            notes: finished.map_or(Box::default(), |finished| finished.notes.clone()),
            rejected: finished.map_or(0, |finished| finished.rejected),
            took_ms: stage.took_ms,
            error: error.map(Box::new),
        };
        stage.in_hand = None;
        let end = Arc::new(end);
        self.ends.push(Arc::clone(&end));
        self.audience.tell(&Event::StageFinished(end));
        self.tell_notes();
    }

    /// Everything that never got its turn is named, the ledger is written, and the run has its
    /// outcome.
    fn end(mut self) -> Ended {
        for id in self.wanted.clone() {
            if !matches!(self.stage(id).state, State::Ended(_)) {
                self.end_stage(id, Status::Interrupted, None);
            }
        }
        let outcome = match (self.failed, self.config.stop.is_requested()) {
            (true, _) => Outcome::Failed,
            (false, true) => Outcome::Interrupted,
            (false, false) => Outcome::Done,
        };
        self.write_ledger();
        let finished = self
            .stages
            .into_iter()
            .map(|stage| stage?.finished)
            .collect();
        Ended {
            outcome,
            finished,
            ends: self.ends,
            content_paths: self.content_paths,
        }
    }

    fn write_ledger(&mut self) {
        let mut changed = false;
        for id in &self.wanted {
            if let Some(finished) = self
                .stages
                .get(id.index())
                .and_then(|stage| stage.as_ref()?.finished.as_ref())
            {
                changed |= self.ledger.insert(&self.graph.node(*id).name, finished);
            }
        }
        // A run of all stages also notices that the workflow has lost some.
        changed |= self.ledger.len() > self.graph.len();
        if changed {
            let graph = self.graph;
            // A further name of a stage is none of the ledger's.
            self.ledger.retain(|name| {
                graph
                    .find(name)
                    .is_some_and(|id| *graph.node(id).name == *name)
            });
        }
        let (cache, workflow) = (&self.config.cache, &self.config.workflow);
        if changed && let Err(error) = self.ledger.write(cache.disk(), cache.folder(), workflow) {
            tracing::warn!(%error, "the ledger could not be written: the next run looks every record up");
        }
    }
}

/// The record of a stage's last result, and when it was removed if it was.
pub(crate) fn last_record(cache: &Cache, key: &Digest) -> Option<Record> {
    cache
        .records
        .get(key)
        .or_else(|| cache.records.evicted(key).map(|(record, _)| record))
}

/// What makes a stage run, given the key it had last: the fields that differ, then what became of a
/// result that there was.
pub(crate) fn why(
    cache: &Cache,
    last: Option<&Digest>,
    now: &KeyInputs,
    repaired: bool,
) -> Vec<String> {
    let mut reasons: Vec<String> = last
        .and_then(|last| last_record(cache, last))
        .map_or(Vec::new(), |last| {
            differences(&last.key_inputs, &now.fields())
        })
        .iter()
        .map(ToString::to_string)
        .collect();
    if let Some((_, when)) = cache.records.evicted(&now.hash()) {
        let age = SystemTime::now().duration_since(when).unwrap_or_default();
        reasons.push(format!("its result was removed to make room, {}", ago(age)));
    } else if last.is_none() {
        reasons.push("it never ran".to_owned());
    } else if reasons.is_empty() {
        // Without a record of the last time there is nothing to tell what is new by.
        let lost = if repaired {
            "its result was damaged"
        } else {
            "its result is no longer in the cache"
        };
        reasons.push(lost.to_owned());
    }
    reasons
}

/// "3 days ago"
fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    let (number, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}
