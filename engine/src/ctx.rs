//! What the body of a stage sees: its arguments and inputs, the cache, and the way to say how far
//! it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blip_grammar::Attributes;
use crossbeam::channel::Sender;

use crate::args::Args;
use crate::cache::Cache;
use crate::cache::checkpoints::{Checkpoint, CheckpointError, Checkpoints};
use crate::cache::objects::ObjectError;
use crate::cache::records::RejectedItem;
use crate::cache::session::Scratch;
use crate::dataset::{Chunk, Gatherer, Item, Manifest};
use crate::digest::Digest;
use crate::event::{Event, UnitCounts};
use crate::files::SourceFile;
use crate::key::{KeyInputs, NumericEnv};
use crate::op::{Artifact, OpError, Output, UnitResult};

/// Progress of a stage is passed on at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Without `@checkpoint`, training state is saved this often.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Results of units are committed when there are this many and some time has gone by, when there
/// are very many, or after a long time: a kill loses a second's work, or one chunk of slow work.
const GROUP_UNITS: usize = 256;
const GROUP_UNITS_MAX: usize = 8192;
const GROUP_INTERVAL: Duration = Duration::from_secs(1);
const GROUP_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Asks a run to stop. Shared between the run and whoever hears the user.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicU8>);

impl StopSignal {
    /// Asks once more: the first time to finish the unit of work in hand, the second time to stop
    /// now.
    pub fn request(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it was asked twice: nothing is waited for any more.
    pub fn is_immediate(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }

    /// Whether it was asked at all.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// What a stage leaves behind besides its result.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    pub(crate) objects: Vec<Digest>,
    pub(crate) curves: Vec<(u64, Vec<(String, f64)>)>,
    pub(crate) rejected: Vec<RejectedItem>,
    pub(crate) units: Option<UnitCounts>,
    /// Where the stage's final state is kept when it commits: the rest of its key, and the growing
    /// argument's value.
    pub(crate) grows: Option<(Digest, u64)>,
    pub(crate) notes: Vec<String>,
    last_progress: Option<Instant>,
}

/// Everything that a [`StageCtx`] is made of.
pub(crate) struct StageParts {
    pub(crate) stage: Arc<str>,
    pub(crate) args: Args,
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) inputs: Vec<(&'static str, Artifact)>,
    pub(crate) sources: Vec<SourceFile>,
    pub(crate) content_paths: Arc<BTreeMap<Digest, PathBuf>>,
    pub(crate) side_outputs: BTreeMap<String, Vec<Artifact>>,
    pub(crate) key_inputs: KeyInputs,
    pub(crate) cache: Arc<Cache>,
    pub(crate) env: Arc<NumericEnv>,
    pub(crate) stop: StopSignal,
    pub(crate) events: Sender<Event>,
    pub(crate) scratch: Scratch,
    /// Units that could not be done before are tried again.
    pub(crate) retry_bad: bool,
}

/// A stage that a result comes from: what an export can tell of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Ancestor {
    /// Its name in the workflow.
    pub stage: Arc<str>,
    /// The op.
    pub op: String,
    /// Names and values of its arguments, those that are no results of stages.
    pub args: Vec<(String, String)>,
    /// Its key.
    pub key: Digest,
    /// Its result.
    pub output: Digest,
    /// How many items that has, where it has items.
    pub count: Option<u64>,
    /// Numbers about it.
    pub metrics: Vec<(String, f64)>,
}

/// What the body of a stage sees.
pub struct StageCtx {
    parts: StageParts,
    lineage: Vec<Ancestor>,
    deadline: Option<Instant>,
    checkpoints: StageCheckpoints,
    traces: Mutex<Traces>,
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
        let attributes = &parts.attributes;
        let checkpoints = StageCheckpoints {
            checkpoints: parts.cache.checkpoints(&parts.key_inputs.hash()),
            every_steps: attributes.checkpoint_every_steps,
            every: attributes
                .checkpoint_every_ms
                .map_or(CHECKPOINT_INTERVAL, Duration::from_millis),
            last: Mutex::new(Instant::now()),
            stop: parts.stop.clone(),
        };
        let deadline = attributes
            .timeout_ms
            .map(|limit| Instant::now() + Duration::from_millis(limit));
        Self {
            parts,
            lineage: Vec::new(),
            deadline,
            checkpoints,
            traces: Mutex::default(),
        }
    }

    pub(crate) fn with_lineage(self, lineage: Vec<Ancestor>) -> Self {
        Self { lineage, ..self }
    }

    /// The stage's name.
    pub fn stage(&self) -> &str {
        &self.parts.stage
    }

    /// Its arguments.
    pub fn args(&self) -> &Args {
        &self.parts.args
    }

    /// The result that a stage-typed argument holds.
    ///
    /// # Errors
    /// [`OpError::Bug`] when the op declares no such argument, or it is absent.
    pub fn input(&self, arg: &str) -> Result<&Artifact, OpError> {
        let mut found = self
            .parts
            .inputs
            .iter()
            .filter(|(name, _)| *name == arg)
            .map(|(_, artifact)| artifact);
        found.next().ok_or_else(|| {
            OpError::Bug(format!(
                "op `{}` has no input `{arg}`",
                self.parts.args.op()
            ))
        })
    }

    /// The results that a variadic or list argument holds, in order.
    ///
    /// # Errors
    /// [`OpError::Bug`] when the op declares no such argument.
    pub fn inputs(&self, arg: &str) -> Result<Vec<&Artifact>, OpError> {
        self.parts.args.value(arg)?;
        Ok(self
            .parts
            .inputs
            .iter()
            .filter(|(name, _)| *name == arg)
            .map(|(_, artifact)| artifact)
            .collect())
    }

    /// The user's files that the op listed.
    pub fn sources(&self) -> &[SourceFile] {
        &self.parts.sources
    }

    /// What of the machine bits depend on.
    pub fn env(&self) -> &NumericEnv {
        &self.parts.env
    }

    /// For an export: the stage whose result it writes and all above it, inputs first. Empty for a
    /// stage.
    pub fn lineage(&self) -> &[Ancestor] {
        &self.lineage
    }

    /// This by-product of every stage above, in an order that does not change.
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
    /// [`OpError::Damaged`] when it is missing or wrong: passed on, it makes the engine run its producer again.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, OpError> {
        self.parts.cache.objects.get(digest).map_err(object_error)
    }

    /// The file of an object, for reading in pieces.
    ///
    /// # Errors
    /// As [`StageCtx::read`].
    pub fn object_path(&self, digest: &Digest) -> Result<PathBuf, OpError> {
        self.parts.cache.objects.path(digest).map_err(object_error)
    }

    /// A file with this content: an object, or a user's file that a stage of this run reads.
    ///
    /// # Errors
    /// As [`StageCtx::read`].
    pub fn content_path(&self, digest: &Digest) -> Result<PathBuf, OpError> {
        match self.parts.content_paths.get(digest) {
            Some(path) => Ok(path.clone()),
            None => self.object_path(digest),
        }
    }

    /// Stores bytes.
    ///
    /// # Errors
    /// [`OpError::Disk`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, OpError> {
        let digest = self.parts.cache.objects.put(bytes)?;
        self.traces().objects.push(digest);
        Ok(digest)
    }

    /// Stores a file of [`StageCtx::scratch`] by moving it.
    ///
    /// # Errors
    /// [`OpError::Disk`], or when it cannot be read.
    pub fn put_file(&self, path: &Path) -> Result<Digest, OpError> {
        let digest = self
            .parts
            .cache
            .objects
            .put_file(path)
            .map_err(object_error)?;
        self.traces().objects.push(digest);
        Ok(digest)
    }

    /// A folder for temporary files, removed when the stage ends.
    pub fn scratch(&self) -> &Path {
        self.parts.scratch.path()
    }

    /// The items of a dataset.
    ///
    /// # Errors
    /// As [`StageCtx::read`].
    pub fn dataset(&self, artifact: &Artifact) -> Result<Dataset<'_>, OpError> {
        let manifest = Manifest::decode(&self.read(&artifact.digest)?)?;
        Ok(Dataset {
            ctx: self,
            manifest,
        })
    }

    /// Gathers the items of a new dataset.
    pub fn dataset_writer(&self) -> DatasetWriter<'_> {
        DatasetWriter {
            ctx: self,
            gatherer: Gatherer::default(),
        }
    }

    /// Whether the stage should stop: the user asked, or its time is over.
    pub fn interrupted(&self) -> bool {
        self.parts.stop.is_requested() || self.timed_out()
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The same as an error to pass on.
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

    /// Says how far the stage is.
    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        let now = Instant::now();
        let mut traces = self.traces();
        let recent = traces
            .last_progress
            .is_some_and(|last| now.duration_since(last) < PROGRESS_INTERVAL);
        if recent && done < total {
            return;
        }
        traces.last_progress = Some(now);
        drop(traces);
        self.send(Event::Progress {
            stage: self.parts.stage.clone(),
            done,
            total,
            unit: unit.to_owned(),
        });
    }

    /// Tells the numbers of a step; they become the stage's curves.
    pub fn metric(&self, step: u64, values: &[(&str, f64)]) {
        let values: Vec<(String, f64)> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        self.traces().curves.push((step, values.clone()));
        self.send(Event::Metric {
            stage: self.parts.stage.clone(),
            step,
            values,
        });
    }

    /// The curves so far: part of the state that a training stage saves, so that a resumed one has
    /// the same.
    pub fn curves(&self) -> Vec<(u64, Vec<(String, f64)>)> {
        self.traces().curves.clone()
    }

    /// Puts back the curves of a checkpoint.
    pub fn restore_curves(&self, curves: Vec<(u64, Vec<(String, f64)>)>) {
        self.traces().curves = curves;
    }

    /// Puts an item aside that cannot be used.
    pub fn reject(&self, item: &str, reason: &str) {
        self.traces().rejected.push(RejectedItem {
            item: item.to_owned(),
            reason: reason.to_owned(),
        });
        self.send(Event::Rejected {
            stage: self.parts.stage.clone(),
            item: item.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Says something that a reader should know at once.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(Event::Warning {
            stage: Some(self.parts.stage.clone()),
            text: text.into(),
        });
    }

    /// The final training state that a stage like this one left with a smaller value of `argument`,
    /// the largest such value, if [`StageCtx::save_warm_start`] kept one. For ops whose steps do
    /// not depend on how many will follow: going on from there gives the bytes of a run from the
    /// start. A checkpoint of this very stage is newer: ask for it first.
    ///
    /// # Errors
    /// [`OpError::Bug`] when `argument` is no count.
    pub fn warm_start(&self, argument: &str) -> Result<Option<Checkpoint>, OpError> {
        let value = self.parts.args.count(argument)?;
        let rest = self.parts.key_inputs.without(argument);
        let smaller = Checkpoints::warm_start(self.parts.cache.folder(), &rest)
            .into_iter()
            .filter(|known| *known < value);
        for known in smaller.rev() {
            if let Some(checkpoint) = self.parts.cache.growth(&rest, known).latest() {
                self.traces()
                    .notes
                    .push(format!("went on from {argument} = {known}"));
                return Ok(Some(checkpoint));
            }
        }
        Ok(None)
    }

    /// Keeps the newest checkpoint when the stage commits, for [`StageCtx::warm_start`] of a stage with
    /// a larger value of `argument`. It has to be the final state: save one after the last step.
    ///
    /// # Errors
    /// [`OpError::Bug`] when `argument` is no count.
    pub fn save_warm_start(&self, argument: &str) -> Result<(), OpError> {
        let value = self.parts.args.count(argument)?;
        self.traces().grows = Some((self.parts.key_inputs.without(argument), value));
        Ok(())
    }

    /// The stage's training state.
    pub fn checkpoints(&self) -> &StageCheckpoints {
        &self.checkpoints
    }

    /// The results of units of work, each cached by its digest and this stage's arguments.
    /// `process` is given the places of missing units, at most `batch` at a time, and gives one
    /// result for each.
    ///
    /// # Errors
    /// As `process` gives, or [`OpError::Disk`].
    pub fn map_units(
        &self,
        units: &[Digest],
        batch: usize,
        mut process: impl FnMut(&[usize]) -> Result<Vec<UnitResult>, OpError>,
    ) -> Result<Vec<UnitResult>, OpError> {
        let template = self.parts.key_inputs.template(None, &[]);
        let keys: Vec<Digest> = units.iter().map(|unit| unit_key(&template, unit)).collect();
        self.parts.cache.units.refresh();
        let mut results = self.known_units(&keys);
        let missing: Vec<usize> = results
            .iter()
            .enumerate()
            .filter(|(_, result)| result.is_none())
            .map(|(place, _)| place)
            .collect();
        let mut buffer = UnitBuffer::new(self);
        let mut work = || -> Result<(), OpError> {
            for places in missing.chunks(batch.max(1)) {
                self.check_interrupted()?;
                for (place, result) in places.iter().zip(process(places)?) {
                    if let (Some(slot), Some(key)) = (results.get_mut(*place), keys.get(*place)) {
                        buffer.add(*key, &result)?;
                        *slot = Some(result);
                    }
                }
            }
            Ok(())
        };
        let worked = work();
        // Also when it went wrong: what has been worked out is not worked out again.
        buffer.commit()?;
        worked?;
        let results: Option<Vec<UnitResult>> = results.into_iter().collect();
        results.ok_or_else(|| {
            OpError::Bug(format!(
                "op `{}` gave too few unit results",
                self.parts.args.op()
            ))
        })
    }

    pub(crate) fn known_units(&self, keys: &[Digest]) -> Vec<Option<UnitResult>> {
        let found = self.parts.cache.units.get(keys);
        let wanted =
            |result: &UnitResult| !(self.parts.retry_bad && matches!(result, UnitResult::Bad(_)));
        found
            .into_iter()
            .map(|bytes| bytes.and_then(|bytes| decode(&bytes)).filter(wanted))
            .collect()
    }

    /// An object that was put before is part of the result.
    pub(crate) fn keep(&self, object: Digest) {
        self.traces().objects.push(object);
    }

    /// Why the first item was put aside.
    pub(crate) fn first_reason(&self) -> String {
        self.traces()
            .rejected
            .first()
            .map_or(String::new(), |first| first.reason.clone())
    }

    pub(crate) fn traces(&self) -> MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn key_inputs(&self) -> &KeyInputs {
        &self.parts.key_inputs
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.parts.cache
    }

    fn send(&self, event: Event) {
        // The run's owner is gone only when the run is over, and then nobody listens.
        let _ = self.parts.events.send(event);
    }
}

/// A failure if more of a stage's items could not be used than its `@max_bad` allows.
pub(crate) fn budget_error(ctx: &StageCtx, bad: u64, total: u64) -> Option<OpError> {
    let share_ppm = u64::from(ctx.parts.attributes.max_bad_ppm?);
    if u128::from(bad) * 1_000_000 <= u128::from(total) * u128::from(share_ppm) {
        return None;
    }
    let reason = ctx.first_reason();
    let share = share_ppm as f64 / 1e6;
    let what = format!(
        "{bad} of {total} items could not be used, more than @max_bad({share:?}) allows; the first: {reason}"
    );
    Some(OpError::failed(
        what,
        "mend the items, or raise @max_bad if so many may be left out",
    ))
}

/// Results of units on their way to the disk.
pub(crate) struct UnitBuffer<'a> {
    ctx: &'a StageCtx,
    group: Vec<(Digest, Vec<u8>)>,
    committed: Instant,
}

impl<'a> UnitBuffer<'a> {
    pub(crate) fn new(ctx: &'a StageCtx) -> Self {
        Self {
            ctx,
            group: Vec::new(),
            committed: Instant::now(),
        }
    }

    pub(crate) fn add(&mut self, key: Digest, result: &UnitResult) -> Result<(), OpError> {
        self.group.push((key, encode(result)));
        let (count, age) = (self.group.len(), self.committed.elapsed());
        let due = count >= GROUP_UNITS && age >= GROUP_INTERVAL;
        if due || count >= GROUP_UNITS_MAX || age >= GROUP_INTERVAL_MAX {
            self.commit()
        } else {
            Ok(())
        }
    }

    pub(crate) fn commit(&mut self) -> Result<(), OpError> {
        if !self.group.is_empty() {
            self.ctx
                .cache()
                .units
                .put(std::mem::take(&mut self.group))?;
        }
        self.committed = Instant::now();
        Ok(())
    }
}

/// The key of a unit of work.
pub(crate) fn unit_key(template: &Digest, unit: &Digest) -> Digest {
    Digest::parts("blip/unit/1", &[template.as_bytes(), unit.as_bytes()])
}

/// A unit's result as bytes: 0 and the result, or 1 and the reason.
pub(crate) fn encode(result: &UnitResult) -> Vec<u8> {
    match result {
        UnitResult::Ok(bytes) => [&[0], bytes.as_slice()].concat(),
        UnitResult::Bad(reason) => [&[1], reason.as_bytes()].concat(),
    }
}

fn decode(bytes: &[u8]) -> Option<UnitResult> {
    match bytes.split_first()? {
        (0, rest) => Some(UnitResult::Ok(rest.to_vec())),
        (_, rest) => Some(UnitResult::Bad(String::from_utf8_lossy(rest).into_owned())),
    }
}

pub(crate) fn object_error(error: ObjectError) -> OpError {
    match error {
        ObjectError::Missing(digest) => OpError::Damaged(digest),
        ObjectError::Disk(error) => OpError::Disk(error),
        ObjectError::Read { .. } => {
            OpError::failed(error.to_string(), "check the disk, then run again")
        }
    }
}

/// The items of a dataset, read chunk by chunk.
#[derive(Debug)]
pub struct Dataset<'a> {
    ctx: &'a StageCtx,
    manifest: Manifest,
}

impl Dataset<'_> {
    /// How many items there are.
    pub fn len(&self) -> u64 {
        self.manifest.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.manifest.is_empty()
    }

    /// The items, ascending by id.
    pub fn items(&self) -> impl Iterator<Item = Result<Item, OpError>> {
        self.manifest
            .chunks
            .iter()
            .flat_map(|(digest, _)| match self.chunk(digest) {
                Ok(chunk) => chunk.items.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            })
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = (Digest, u32)> {
        self.manifest.chunks.iter().copied()
    }

    pub(crate) fn chunk(&self, digest: &Digest) -> Result<Chunk, OpError> {
        Ok(Chunk::decode(&self.ctx.read(digest)?)?)
    }
}

/// Gathers the items of a new dataset, in any order.
#[derive(Debug)]
pub struct DatasetWriter<'a> {
    ctx: &'a StageCtx,
    gatherer: Gatherer,
}

impl DatasetWriter<'_> {
    /// Adds an item.
    ///
    /// # Errors
    /// [`OpError::Bug`] for a second item of the same id.
    pub fn add(&mut self, id: Digest, payload: Vec<u8>) -> Result<(), OpError> {
        Ok(self.gatherer.add(id, payload)?)
    }

    /// Stores the dataset.
    ///
    /// # Errors
    /// [`OpError::Disk`].
    pub fn finish(self) -> Result<Output, OpError> {
        let mut manifest = Manifest { chunks: Vec::new() };
        for chunk in self.gatherer.chunks() {
            let count =
                u32::try_from(chunk.items.len()).expect("chunks are bounded far below 2^32 items");
            manifest
                .chunks
                .push((self.ctx.put(&chunk.encode())?, count));
        }
        let count = Some(manifest.len());
        Ok(Output {
            count,
            ..Output::of(self.ctx.put(&manifest.encode())?)
        })
    }
}

/// The training state of a stage: saved now and then, and found again after a kill.
#[derive(Debug)]
pub struct StageCheckpoints {
    checkpoints: Checkpoints,
    every_steps: Option<u64>,
    every: Duration,
    last: Mutex<Instant>,
    stop: StopSignal,
}

impl StageCheckpoints {
    /// The newest state, if there is one.
    pub fn latest(&self) -> Option<Checkpoint> {
        self.checkpoints.latest()
    }

    /// Whether to save after `step` steps: the interval is over, or the run is asked to stop.
    pub fn due(&self, step: u64) -> bool {
        let over = match self.every_steps {
            Some(every) => step.is_multiple_of(every.max(1)),
            None => {
                self.last
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .elapsed()
                    >= self.every
            }
        };
        over || self.stop.is_requested()
    }

    /// Saves: `write` puts files into the folder it is given.
    ///
    /// # Errors
    /// [`OpError::Disk`], or what `write` gives.
    pub fn save(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        self.checkpoints
            .save(step, write)
            .map_err(|error| match error {
                CheckpointError::Disk(error) => OpError::Disk(error),
                CheckpointError::Writer(error) => error,
                CheckpointError::Read { .. } => {
                    OpError::failed(error.to_string(), "check the disk, then run again")
                }
            })?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }
}
