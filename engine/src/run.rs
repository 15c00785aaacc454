//! A run: one thread owns the state of every stage, workers do the work and answer by message.

mod resources;
mod state;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};

pub use self::resources::Resources;
use self::state::State;
use self::worker::{Answer, Job, Probe, ProbeJob, Ran, RunJob};
use crate::cache::lock::{Holder, LockFile};
use crate::cache::records::Record;
use crate::cache::{Cache, Lease};
use crate::ctx::{StageCtx, StageParts, Stop};
use crate::digest::Digest;
use crate::event::{Audience, Event, Outcome, StageEnd, StageError, Status, UnitCounts};
use crate::files::SourceFile;
use crate::graph::{Graph, NodeId};
use crate::history::Reader;
use crate::key::{NumericEnv, Preimage, differences};
use crate::op::{Artifact, OpError};

/// How often a result that turns out to be damaged is made again in one run.
const REPAIRS_MAX: u32 = 3;
/// The wait before the second attempt; each further one waits twice as long.
const BACKOFF: Duration = Duration::from_secs(1);
/// The owner looks up at least this often, to hear of a request to stop.
const TICK: Duration = Duration::from_millis(50);
/// How often a stage that another process makes is looked at.
const LEASE_POLL: Duration = Duration::from_millis(50);
/// Jobs and answers on their way. Workers never outrun the owner by more.
const QUEUE: usize = 256;

/// What a run needs to know besides the graph.
pub(crate) struct Setting {
    pub(crate) base: PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
    pub(crate) resources: Resources,
    pub(crate) workflow: String,
    pub(crate) keep_going: bool,
    pub(crate) no_wait: bool,
    pub(crate) stop: Stop,
}

/// What the owner knows of a stage.
struct Stage {
    state: State,
    inputs_open: usize,
    key: Option<Digest>,
    preimage: Option<Preimage>,
    sources: Vec<SourceFile>,
    record: Option<Record>,
    attempt: u32,
    repairs: u32,
    due: Option<Instant>,
    taken: Option<Resources>,
    /// The right to run it; held from before it starts until its record is written.
    lease: Option<LockFile>,
    /// Who makes its result, once told.
    elsewhere: Option<Holder>,
    took_ms: u64,
}

/// The owner of a run's state.
pub(crate) struct Run<'a, 'l> {
    graph: &'a Graph,
    setting: Setting,
    wanted: Vec<NodeId>,
    stages: BTreeMap<NodeId, Stage>,
    free: Resources,
    in_flight: usize,
    failed: bool,
    blobs: Arc<BTreeMap<Digest, PathBuf>>,
    history: Option<BTreeMap<String, Record>>,
    /// Stages that wait for a stage that makes a damaged object again, and are no direct consumers of it.
    repairs: Vec<(NodeId, NodeId)>,
    audience: &'a mut Audience<'l>,
    jobs: Option<Sender<Job>>,
    events: (Sender<Event>, Receiver<Event>),
}

/// What a run came to.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) records: BTreeMap<NodeId, Record>,
    pub(crate) blobs: Arc<BTreeMap<Digest, PathBuf>>,
}

/// Runs these stages and those above them.
pub(crate) fn run(graph: &Graph, targets: &[NodeId], setting: Setting, audience: &mut Audience<'_>) -> Ended {
    let wanted = graph.closure(targets);
    let stage = |id: &NodeId| {
        let mut inputs: Vec<NodeId> = graph.inputs(*id).iter().map(|(_, input)| *input).collect();
        inputs.sort_unstable();
        inputs.dedup();
        Stage {
            state: State::Waiting,
            inputs_open: inputs.len(),
            key: None,
            preimage: None,
            sources: Vec::new(),
            record: None,
            attempt: 1,
            repairs: 0,
            due: None,
            taken: None,
            lease: None,
            elsewhere: None,
            took_ms: 0,
        }
    };
    let (jobs_in, jobs_out) = channel::bounded::<Job>(QUEUE);
    let (answers_in, answers_out) = channel::bounded::<Answer>(QUEUE);
    let workers = setting.resources.cpu.max(1) as usize + 1;
    let mut run = Run {
        stages: wanted.iter().map(|id| (*id, stage(id))).collect(),
        free: setting.resources,
        graph,
        setting,
        wanted,
        in_flight: 0,
        failed: false,
        blobs: Arc::default(),
        history: None,
        repairs: Vec::new(),
        audience,
        jobs: Some(jobs_in),
        events: channel::bounded(QUEUE),
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (jobs, answers) = (jobs_out.clone(), answers_in.clone());
            scope.spawn(move || worker::work(&jobs, &answers));
        }
        drop((jobs_out, answers_in));
        run.own(&answers_out);
        run.jobs = None;
    });
    run.end()
}

impl Run<'_, '_> {
    /// The owner's loop.
    fn own(&mut self, answers: &Receiver<Answer>) {
        for id in self.wanted.clone() {
            self.wake(id);
        }
        loop {
            self.dispatch();
            if self.in_flight == 0 && !self.anything_delayed() {
                break;
            }
            let events = self.events.1.clone();
            channel::select! {
                recv(answers) -> answer => if let Ok(answer) = answer {
                    self.drain_events();
                    self.in_flight -= 1;
                    match answer {
                        Answer::Probed(id, probe) => self.probed(id, probe),
                        Answer::Ran(id, ran) => self.ran(id, *ran),
                    }
                },
                recv(events) -> event => if let Ok(event) = event { self.emit(event) },
                default(TICK) => {}
            }
        }
        self.drain_events();
    }

    fn drain_events(&mut self) {
        while let Ok(event) = self.events.1.try_recv() {
            self.emit(event);
        }
    }

    fn emit(&mut self, event: Event) {
        self.audience.tell(&event);
        for text in self.setting.cache.take_notes() {
            self.audience.tell(&Event::Warning { stage: None, text });
        }
    }

    fn stage(&mut self, id: NodeId) -> &mut Stage {
        self.stages.get_mut(&id).expect("every stage that is handled is wanted")
    }

    fn halted(&self) -> bool {
        self.setting.stop.asked() || (self.failed && !self.setting.keep_going)
    }

    fn anything_delayed(&self) -> bool {
        let delayed = |stage: &Stage| matches!(stage.state, State::Delayed | State::Elsewhere);
        !self.halted() && self.stages.values().any(delayed)
    }

    /// A waiting stage whose inputs all have results becomes ready.
    fn wake(&mut self, id: NodeId) {
        let stage = self.stage(id);
        if stage.state == State::Waiting && stage.inputs_open == 0 {
            stage.state.go(State::Ready);
        }
    }

    /// Hands out everything that can go on, in the order of the graph.
    fn dispatch(&mut self) {
        if self.halted() {
            return;
        }
        for id in self.wanted.clone() {
            if self.in_flight >= QUEUE / 2 {
                return;
            }
            let stage = self.stage(id);
            let due = stage.due.is_some_and(|due| due <= Instant::now());
            match stage.state {
                State::Ready => self.probe(id),
                State::Delayed | State::Elsewhere if due => {
                    self.stage(id).state.go(State::Queued);
                    self.start(id);
                }
                State::Queued => self.start(id),
                _ => {}
            }
        }
    }

    fn send(&mut self, job: Job) {
        self.in_flight += 1;
        let jobs = self.jobs.as_ref().expect("jobs are handed out only while the workers live");
        jobs.send(job).expect("workers live until the owner lets go of the jobs");
    }

    fn inputs(&self, id: NodeId) -> Vec<(&'static str, Artifact)> {
        let artifact = |input: NodeId| {
            let record = self.stages.get(&input)?.record.as_ref()?;
            let stage = self.graph.node(input).name.clone();
            Some(Artifact { ty: record.ty.clone(), digest: record.output, stage, count: record.count })
        };
        self.graph.inputs(id).iter().filter_map(|(arg, input)| Some((*arg, artifact(*input)?))).collect()
    }

    fn probe(&mut self, id: NodeId) {
        self.stage(id).state.go(State::Probing);
        let job = ProbeJob {
            id,
            node: self.graph.node(id).clone(),
            inputs: self.inputs(id),
            base: self.setting.base.clone(),
            cache: Arc::clone(&self.setting.cache),
            env: Arc::clone(&self.setting.env),
        };
        self.send(Job::Probe(Box::new(job)));
    }

    fn probed(&mut self, id: NodeId, probe: Result<Box<Probe>, OpError>) {
        let probe = match probe {
            Ok(probe) => *probe,
            Err(error) => return self.fail(id, &error),
        };
        if probe.sources.iter().any(|file| !self.blobs.contains_key(&file.digest)) {
            let blobs = Arc::make_mut(&mut self.blobs);
            blobs.extend(probe.sources.iter().map(|file| (file.digest, file.path.clone())));
        }
        let ran_above = self.ran_above(id);
        let stage = self.stage(id);
        stage.key = Some(probe.key);
        stage.preimage = Some(probe.preimage);
        stage.sources = probe.sources;
        stage.took_ms = probe.took_ms;
        match probe.record {
            Some(record) => {
                stage.record = Some(record);
                self.finish(id, if ran_above { Status::CutOff } else { Status::Reused }, None);
            }
            None => stage.state.go(State::Queued),
        }
    }

    /// Whether a stage above this one ran in this run.
    fn ran_above(&self, id: NodeId) -> bool {
        let mut above = self.graph.closure(&[id]);
        above.retain(|other| *other != id);
        above.iter().any(|id| self.stages.get(id).is_some_and(|stage| stage.state == State::Ended(Status::Ran)))
    }

    fn start(&mut self, id: NodeId) {
        let node = self.graph.node(id).clone();
        let amount = Resources::of(&node.op, &node.attributes, &self.setting.resources);
        if !self.free.take(&amount) {
            return;
        }
        if !self.lease(id) {
            self.free.give(&amount);
            return;
        }
        let parts = match self.parts(id) {
            Ok(parts) => parts,
            Err(error) => {
                self.free.give(&amount);
                return self.fail(id, &error);
            }
        };
        let why = self.why(id);
        let stage = self.stage(id);
        stage.taken = Some(amount);
        stage.state.go(State::Running);
        if stage.attempt == 1 {
            self.emit(Event::StageStarted { stage: node.name.clone(), op: node.op.signature.name.to_owned(), why });
        }
        self.send(Job::Run(Box::new(RunJob { id, node, parts })));
    }

    /// Whether the stage may run now. If somebody else runs one of the same key, it waits for that one's result, and
    /// takes the result when it is there.
    fn lease(&mut self, id: NodeId) -> bool {
        let key = self.stage(id).key.expect("a stage that starts has been probed");
        let theirs = match self.setting.cache.lease(&key) {
            Lease::Ours(lease) => {
                self.stage(id).lease = lease;
                return !self.shares(id, &key);
            }
            Lease::Theirs(holder) => holder,
        };
        if self.setting.no_wait && !theirs.is_this() {
            let Holder { pid, host, .. } = &theirs;
            let what = format!("process {pid} on {host} makes its result, for {} s by now", theirs.age_s());
            self.fail(id, &OpError::failed(what, "wait for that process to end, then run again"));
            return false;
        }
        let name = self.graph.node(id).name.clone();
        let stage = self.stage(id);
        stage.state.go(State::Elsewhere);
        stage.due = Some(Instant::now() + LEASE_POLL);
        // Who has just taken the lease may not have written its name yet.
        if !theirs.is_this() && theirs.pid != 0 && stage.elsewhere.as_ref() != Some(&theirs) {
            stage.elsewhere = Some(theirs.clone());
            let Holder { pid, host, since } = theirs;
            self.emit(Event::Waiting { stage: Some(name), pid, host, since });
        }
        false
    }

    /// Takes the result if somebody else has made it since this stage was probed.
    fn shares(&mut self, id: NodeId, key: &Digest) -> bool {
        let Some(record) = self.setting.cache.hit(key) else { return false };
        let ran_above = self.ran_above(id);
        let stage = self.stage(id);
        stage.lease = None;
        stage.record = Some(record);
        self.finish(id, if ran_above { Status::CutOff } else { Status::Reused }, None);
        true
    }

    fn parts(&mut self, id: NodeId) -> Result<StageParts, OpError> {
        let cache = Arc::clone(&self.setting.cache);
        let scratch = cache.scratch()?;
        let node = self.graph.node(id);
        let stage = self.stages.get(&id).expect("every stage that is handled is wanted");
        Ok(StageParts {
            stage: node.name.clone(),
            args: node.args.clone(),
            attributes: node.attributes.clone(),
            inputs: self.inputs(id),
            sources: stage.sources.clone(),
            blobs: Arc::clone(&self.blobs),
            sides: self.sides(id),
            preimage: stage.preimage.clone().expect("a stage that starts has been probed"),
            cache,
            env: Arc::clone(&self.setting.env),
            stop: self.setting.stop.clone(),
            events: self.events.0.clone(),
            scratch,
        })
    }

    /// The by-products of every stage above.
    fn sides(&self, id: NodeId) -> BTreeMap<String, Vec<Artifact>> {
        sides(self.graph, id, |above| self.stages.get(&above).and_then(|stage| stage.record.as_ref()))
    }

    /// What makes a stage run: what differs from its last result, by field.
    fn why(&mut self, id: NodeId) -> Vec<String> {
        let setting = &self.setting;
        let history =
            self.history.get_or_insert_with(|| Reader::new(setting.cache.folder()).last_records(&setting.workflow));
        let name = &self.graph.node(id).name;
        let stage = self.stages.get(&id).expect("every stage that is handled is wanted");
        why(history.get(name), stage.preimage.as_ref(), stage.repairs > 0)
    }

    fn ran(&mut self, id: NodeId, ran: Ran) {
        let stage = self.stage(id);
        stage.took_ms = ran.took_ms;
        stage.lease = None;
        if let Some(amount) = stage.taken.take() {
            self.free.give(&amount);
        }
        match ran.result {
            Ok(record) => {
                self.stage(id).record = Some(record);
                self.finish(id, Status::Ran, ran.units);
            }
            Err(OpError::Interrupted) if ran.timed_out && !self.setting.stop.asked() => {
                let limit = self.graph.node(id).attributes.timeout_ms.unwrap_or(0);
                let what = format!("it took longer than its timeout of {}", blip_grammar::duration_text(limit));
                self.attempt_again(id, &OpError::failed(what, "raise @timeout, or look why it is slow"));
            }
            Err(OpError::Interrupted) => self.finish(id, Status::Interrupted, None),
            Err(OpError::Damaged(object)) => self.repair(id, object),
            Err(error) => self.attempt_again(id, &error),
        }
    }

    /// A failure: another attempt if the stage has one left.
    fn attempt_again(&mut self, id: NodeId, error: &OpError) {
        let retries = self.graph.node(id).attributes.retries.unwrap_or(0);
        let name = self.graph.node(id).name.clone();
        let stage = self.stage(id);
        if stage.attempt > retries {
            return self.fail(id, error);
        }
        let wait = BACKOFF * 2_u32.saturating_pow(stage.attempt - 1);
        stage.attempt += 1;
        stage.due = Some(Instant::now() + wait);
        stage.state.go(State::Delayed);
        let attempt = stage.attempt;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.emit(Event::Retrying { stage: name, what: error.to_string(), attempt, wait_ms });
    }

    /// An object that a stage needs is damaged: whoever made it makes it again, then the stage has its turn.
    fn repair(&mut self, id: NodeId, object: Digest) {
        let made_it = |stage: &Stage| {
            stage.record.as_ref().is_some_and(|record| record.output == object || record.objects.contains(&object))
        };
        let producers: Vec<NodeId> =
            self.stages.iter().filter(|(_, stage)| made_it(stage)).map(|(id, _)| *id).collect();
        let Some(producer) =
            producers.first().copied().filter(|id| self.stages.get(id).is_some_and(|s| s.repairs < REPAIRS_MAX))
        else {
            let what = format!("the object {} is missing or damaged and could not be made again", object.short());
            return self.fail(id, &OpError::failed(what, "check the disk of the cache, then run again"));
        };
        let text =
            format!("the object {} was damaged: `{}` makes it again", object.short(), self.graph.node(producer).name);
        self.emit(Event::Warning { stage: Some(self.graph.node(id).name.clone()), text });
        let stage = self.stage(producer);
        let key = stage.key;
        stage.repairs += 1;
        stage.record = None;
        stage.state.go(State::Ready);
        if let Some(key) = key
            && let Err(error) = self.setting.cache.records.remove(&key)
        {
            return self.fail(id, &OpError::Disk(error));
        }
        let mut waiting = self.graph.consumers(producer);
        if !waiting.contains(&id) {
            self.repairs.push((producer, id));
            waiting.push(id);
        }
        for consumer in waiting {
            if let Some(stage) = self.stages.get_mut(&consumer) {
                stage.inputs_open += 1;
            }
        }
        self.stage(id).state.go(State::Waiting);
    }

    fn fail(&mut self, id: NodeId, error: &OpError) {
        self.failed = true;
        let error = StageError { what: error.to_string(), help: error.help() };
        let stage = self.stage(id);
        (stage.record, stage.lease) = (None, None);
        self.end_stage(id, Status::Failed, None, Some(error));
        self.skip_below(id);
    }

    fn skip_below(&mut self, id: NodeId) {
        let because = self.graph.node(id).name.clone();
        for consumer in self.graph.consumers(id) {
            if self.stages.get(&consumer).is_none_or(|stage| stage.state != State::Waiting) {
                continue;
            }
            let what = format!("`{because}`, which it needs, has no result");
            let help = format!("mend `{because}` and run again");
            self.end_stage(consumer, Status::Skipped, None, Some(StageError { what, help }));
            self.skip_below(consumer);
        }
    }

    /// A stage has its result, or was interrupted.
    fn finish(&mut self, id: NodeId, status: Status, units: Option<UnitCounts>) {
        self.end_stage(id, status, units, None);
        if status == Status::Interrupted {
            return;
        }
        let mut consumers = self.graph.consumers(id);
        let repaired = self.repairs.extract_if(.., |(producer, _)| *producer == id);
        consumers.extend(repaired.map(|(_, consumer)| consumer));
        for consumer in consumers {
            if let Some(stage) = self.stages.get_mut(&consumer) {
                stage.inputs_open = stage.inputs_open.saturating_sub(1);
                self.wake(consumer);
            }
        }
    }

    fn end_stage(&mut self, id: NodeId, status: Status, units: Option<UnitCounts>, error: Option<StageError>) {
        let node = self.graph.node(id);
        let (name, op, ty) = (node.name.clone(), node.op.signature.name.to_owned(), node.output.to_string());
        let stage = self.stage(id);
        stage.state.go(State::Ended(status));
        let record = stage.record.as_ref();
        let end = StageEnd {
            stage: name,
            op,
            status,
            key: stage.key,
            output: record.map(|record| record.output),
            ty,
            count: record.and_then(|record| record.count),
            units,
            metrics: record.map_or(Vec::new(), |record| record.metrics.clone()),
            notes: record.map_or(Vec::new(), |record| record.notes.clone()),
            quarantined: record.map_or(0, |record| record.quarantined.len() as u64),
            took_ms: stage.took_ms,
            error,
        };
        self.emit(Event::StageFinished(Box::new(end)));
    }

    /// Everything that never got its turn is named, and the run has its outcome.
    fn end(mut self) -> Ended {
        for id in self.wanted.clone() {
            if !matches!(self.stage(id).state, State::Ended(_)) {
                self.end_stage(id, Status::Interrupted, None, None);
            }
        }
        let outcome = match (self.failed, self.setting.stop.asked()) {
            (true, _) => Outcome::Failed,
            (false, true) => Outcome::Interrupted,
            (false, false) => Outcome::Done,
        };
        let records = self.stages.into_iter().filter_map(|(id, stage)| Some((id, stage.record?))).collect();
        Ended { outcome, records, blobs: self.blobs }
    }
}

/// What makes a stage run, given its last record.
pub(crate) fn why(last: Option<&Record>, now: Option<&Preimage>, repaired: bool) -> Vec<String> {
    let (Some(last), Some(now)) = (last, now) else { return vec!["it never ran".to_owned()] };
    let found = differences(&last.preimage, &now.fields());
    if !found.is_empty() {
        return found.iter().map(ToString::to_string).collect();
    }
    let reason = if repaired { "its result was damaged" } else { "its result is no longer in the cache" };
    vec![reason.to_owned()]
}

/// The by-products of every stage above one, by name.
pub(crate) fn sides<'r>(
    graph: &Graph,
    id: NodeId,
    record: impl Fn(NodeId) -> Option<&'r Record>,
) -> BTreeMap<String, Vec<Artifact>> {
    let mut sides: BTreeMap<String, Vec<Artifact>> = BTreeMap::new();
    for above in graph.closure(&[id]) {
        let Some(record) = (above != id).then(|| record(above)).flatten() else { continue };
        for (name, digest) in &record.sides {
            let stage = graph.node(above).name.clone();
            let artifact = Artifact { ty: name.clone(), digest: *digest, stage, count: None };
            sides.entry(name.clone()).or_default().push(artifact);
        }
    }
    sides
}

/// What an export sees: the stage it writes, with everything above it.
pub(crate) fn export_ctx(
    graph: &Graph,
    id: NodeId,
    ended: &Ended,
    cache: &Arc<Cache>,
    config: &crate::Config,
) -> Result<StageCtx, OpError> {
    let node = graph.node(id);
    let scratch = cache.scratch()?;
    // Exports are told of as a whole; what they say in between is dropped.
    let (events, _) = channel::bounded(1);
    let mut sides = sides(graph, id, |above| ended.records.get(&above));
    for (name, digest) in ended.records.get(&id).iter().flat_map(|record| &record.sides) {
        let artifact = Artifact { ty: name.clone(), digest: *digest, stage: node.name.clone(), count: None };
        sides.entry(name.clone()).or_default().push(artifact);
    }
    let env = Arc::new(config.env.clone());
    Ok(StageCtx::new(StageParts {
        stage: node.name.clone(),
        args: node.args.clone(),
        attributes: node.attributes.clone(),
        inputs: Vec::new(),
        sources: Vec::new(),
        blobs: Arc::clone(&ended.blobs),
        sides,
        preimage: Preimage::new(&node.op, &node.args, &[], &[], &env),
        cache: Arc::clone(cache),
        env,
        stop: Stop::default(),
        events,
        scratch,
    }))
}
