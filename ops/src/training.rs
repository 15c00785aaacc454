//! The loop of every training stage: batches in an order made of the seed, steps, checkpoints,
//! curves.
//!
//! Everything random is a function of (seed, purpose, step), so resuming needs no state of any
//! random generator, and a run that was killed at any step ends in the same bytes as one that was
//! not.

use std::collections::BTreeMap;
use std::path::Path;

use blip_data::augment::Augmentation;
use blip_data::clean;
use blip_data::random::Random;
use blip_data::vocab::Vocab;
use blip_engine::{Args, Artifact, Digest, OpError, StageCtx};
use blip_model::optimizer::AdamW;
use blip_model::pretrain::{Batch, Losses};
use blip_model::schedule::At;
use blip_model::weights::Mismatch;
use blip_model::{Med, Pass, store};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::images::Images;
use crate::loader::{Job, Loader, Seen, View};
use crate::pairs;

/// The curve has about this many points an epoch, and one at least every so many steps. Neither
/// depends on how many epochs there are, so that a training that goes on where a shorter one ended
/// has the same curve.
const EPOCH_POINTS: u64 = 20;
const POINT_STEPS_MAX: u64 = 50;
/// The argument of which more continues less, in trainings whose schedule depends on the step
/// alone.
const GROWING: &str = "epochs";

/// What random numbers are for; each purpose has streams of its own.
#[derive(Clone, Copy)]
enum Purpose {
    Order = 1,
    View = 2,
    Negatives = 3,
    Dropout = 4,
    Start = 5,
}

/// How a model is trained, whatever it learns.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Times that every pair is seen.
    pub(crate) epochs: u64,
    /// Pairs of a step.
    pub(crate) batch: usize,
    /// Parts in which a step's pairs go through the model one after the other.
    pub(crate) accumulate: usize,
    /// What everything random is made of.
    pub(crate) seed: u64,
    /// What is done to pictures.
    pub(crate) augmentation: Augmentation,
    /// Multiply matrices in bfloat16.
    pub(crate) bf16: bool,
    /// Weight decay of AdamW.
    pub(crate) weight_decay: f64,
    /// Longest text in tokens, the first and the last one included.
    pub(crate) length: usize,
    /// What every text begins with.
    pub(crate) prompt: String,
    /// More epochs go on where fewer ended: the learner's rates depend on the step alone.
    pub(crate) grows: bool,
}

impl Recipe {
    /// Reads what the arguments of all training ops have in common.
    pub(crate) fn of(args: &Args, length: usize, prompt: &str) -> Result<Self, OpError> {
        let batch = args.count("batch")? as usize;
        let accumulate = args.count("accumulate")? as usize;
        if accumulate > batch {
            let what = format!("a batch of {batch} cannot be accumulated from {accumulate} parts");
            return Err(OpError::failed(
                what,
                "make `accumulate` smaller or `batch` larger",
            ));
        }
        Ok(Self {
            epochs: args.count("epochs")?,
            batch,
            accumulate,
            seed: args.count("seed")?,
            augmentation: Augmentation {
                min_scale: args.float("crop")?,
                flip: args.boolean("flip")?,
                randaugment: args.boolean("randaugment")?,
            },
            bf16: args.text("precision")? == "bf16",
            weight_decay: args.float("weight_decay")?,
            length,
            prompt: prompt.to_owned(),
            grows: false,
        })
    }
}

/// What a training learns and how fast.
pub(crate) trait Learner {
    /// The learning rate of a step.
    fn rate(&self, at: At) -> f64;
    /// The losses of a part of a step's batch; `first` says that it is the first part.
    fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        at: At,
        first: bool,
        pass: Pass,
        unit: &mut dyn FnMut() -> f64,
    ) -> Losses;
    /// What has to be saved besides weights and optimizer.
    fn state(&self) -> BTreeMap<String, Tensor>;
    /// Puts it back.
    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Mismatch>;
}

/// The pairs of a training, one text each.
#[derive(Debug)]
pub(crate) struct Pairs {
    images: Vec<Digest>,
    /// Place of the image, the text cleaned.
    pairs: Vec<(u32, Box<str>)>,
}

impl Pairs {
    /// The texts of a dataset that can be learnt from. A text without any known word is put aside.
    pub(crate) fn read(
        ctx: &StageCtx,
        artifact: &Artifact,
        vocab: &Vocab,
    ) -> Result<Self, OpError> {
        let mut pairs = Self {
            images: Vec::new(),
            pairs: Vec::new(),
        };
        for item in ctx.dataset(artifact)?.items() {
            let item = item?;
            let sample = pairs::decode(&item)?;
            let place = u32::try_from(pairs.images.len())
                .map_err(|_| OpError::Bug("more than 2^32 images".to_owned()))?;
            pairs.images.push(item.id);
            for text in &sample.texts {
                let cleaned = clean::caption(&text.text, clean::WORDS_MAX);
                if vocab.knows_any(&cleaned) {
                    pairs.pairs.push((place, cleaned.into_boxed_str()));
                } else {
                    ctx.reject(&text.key, "its text has no word of the vocabulary");
                }
            }
        }
        if pairs.pairs.is_empty() {
            let what = format!("`{}` has no pair to train on", artifact.stage);
            return Err(OpError::failed(
                what,
                "look at its items, and at the vocabulary that their texts should be of",
            ));
        }
        Ok(pairs)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }
}

/// Trains `med` on the pairs and says what the last losses were. The caller holds
/// [`blip_model::device::exclusive`].
pub(crate) fn train(
    ctx: &StageCtx,
    recipe: &Recipe,
    med: &Med,
    pairs: &Pairs,
    vocab: &Vocab,
    learner: &mut dyn Learner,
) -> Result<Vec<(String, f64)>, OpError> {
    let batch = recipe.batch.min(pairs.len());
    let steps_per_epoch = (pairs.len() / batch).max(1) as u64;
    let plan = Plan {
        recipe,
        pairs,
        batch,
        steps_per_epoch,
        total: steps_per_epoch * recipe.epochs,
    };
    let mut training = Training {
        ctx,
        plan,
        med,
        vocab,
        adam: AdamW::new(&med.weights.flat(), recipe.weight_decay),
        window: Window::default(),
        pixels: Vec::new(),
    };
    let start = training.resume(learner)?;
    training.run(start, learner)?;
    let last = ctx
        .curves()
        .last()
        .map_or(Vec::new(), |(_, values)| values.clone());
    let mut metrics = vec![
        ("steps".to_owned(), plan.total as f64),
        ("pairs".to_owned(), pairs.len() as f64),
    ];
    metrics.extend(last.into_iter().filter(|(name, _)| name != "lr"));
    Ok(metrics)
}

/// Sums of losses since the last point of the curve.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    sums: BTreeMap<String, (f64, u64)>,
}

/// Which pairs are seen in which step and how: a function of the recipe, the same in every run.
#[derive(Clone, Copy)]
struct Plan<'a> {
    recipe: &'a Recipe,
    pairs: &'a Pairs,
    batch: usize,
    steps_per_epoch: u64,
    total: u64,
}

struct Training<'a> {
    ctx: &'a StageCtx,
    plan: Plan<'a>,
    med: &'a Med,
    vocab: &'a Vocab,
    adam: AdamW,
    window: Window,
    /// The pictures of a part of a step, one after the other. Kept, since a system takes its time
    /// to give out 100 MB of memory.
    pixels: Vec<f32>,
}

/// What a checkpoint holds besides tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notes {
    curves: Vec<(u64, Vec<(String, f64)>)>,
    window: Window,
}

const STATE_FILE: &str = "state.safetensors";
const NOTES_FILE: &str = "notes.json";

impl<'a> Plan<'a> {
    fn random(&self, purpose: Purpose, numbers: &[u64]) -> Random {
        let seeds: Vec<u64> = [self.recipe.seed, purpose as u64]
            .into_iter()
            .chain(numbers.iter().copied())
            .collect();
        Random::new(&seeds)
    }

    /// The pairs of an epoch in their order: Fisher and Yates, from (seed, epoch).
    fn order(&self, epoch: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.pairs.len() as u32).collect();
        let mut random = self.random(Purpose::Order, &[epoch]);
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        order
    }

    /// The pictures of all steps from `start` on, in order.
    fn jobs(self, start: u64) -> impl Iterator<Item = Job> + 'a {
        let (steps_per_epoch, batch) = (self.steps_per_epoch, self.batch);
        let epochs = start / steps_per_epoch..self.recipe.epochs;
        epochs.flat_map(move |epoch| {
            let skipped = start.saturating_sub(epoch * steps_per_epoch) as usize * batch;
            let order = self
                .order(epoch)
                .into_iter()
                .take(steps_per_epoch as usize * batch)
                .skip(skipped);
            order.map(move |place| {
                let (image, _) = &self.pairs.pairs[place as usize];
                let random = self.random(Purpose::View, &[epoch, place.into()]);
                let view = View::Augmented(self.recipe.augmentation, random);
                Job {
                    image: self.pairs.images[*image as usize],
                    view,
                }
            })
        })
    }
}

impl Training<'_> {
    fn run(&mut self, start: u64, learner: &mut dyn Learner) -> Result<(), OpError> {
        let size = u32::try_from(self.med.config.vision.image())
            .expect("images are at most 4096 pixels wide");
        let loader = Loader::remembering(Images::above(self.ctx)?, size);
        let mut pictures = loader.load(self.plan.jobs(start));
        let mut epoch = (u64::MAX, Vec::new());
        for step in start..self.plan.total {
            if self.ctx.interrupted() {
                self.save(step, learner)?;
                return Err(OpError::Interrupted);
            }
            let at = At {
                step,
                steps_per_epoch: self.plan.steps_per_epoch,
            };
            if epoch.0 != at.epoch() {
                epoch = (at.epoch(), self.plan.order(at.epoch()));
            }
            let first = (step % self.plan.steps_per_epoch) as usize * self.plan.batch;
            self.step(
                at,
                &epoch.1[first..first + self.plan.batch],
                &mut pictures,
                learner,
            )?;
            self.ctx.progress(step + 1, self.plan.total, "steps");
            if step + 1 < self.plan.total && self.ctx.checkpoints().due(step + 1) {
                self.save(step + 1, learner)?;
            }
        }
        if self.plan.recipe.grows {
            self.save(self.plan.total, learner)?;
            self.ctx.save_warm_start(GROWING)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        at: At,
        places: &[u32],
        pictures: &mut dyn Iterator<Item = Result<Seen, OpError>>,
        learner: &mut dyn Learner,
    ) -> Result<(), OpError> {
        let part = places.len().div_ceil(self.plan.recipe.accumulate);
        let pass = Pass {
            train: true,
            bf16: self.plan.recipe.bf16,
        };
        let med = self.med;
        let inputs: Vec<&Tensor> = med.weights.trained().collect();
        let mut gradient: Option<Tensor> = None;
        let mut losses: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (number, places) in places.chunks(part).enumerate() {
            let batch = self.assemble(places, pictures)?;
            tch::manual_seed(
                self.plan
                    .random(Purpose::Dropout, &[at.step, number as u64])
                    .bits()
                    .cast_signed(),
            );
            let mut negatives = self
                .plan
                .random(Purpose::Negatives, &[at.step, number as u64]);
            let found =
                learner.losses(med, &batch, at, number == 0, pass, &mut || negatives.unit());
            let share = places.len() as f64 / self.plan.batch as f64;
            for (name, value) in found.values() {
                *losses.entry(name).or_default() += value * share;
            }
            self.check(at, &losses)?;
            if let Some(total) = found.total() {
                let parts = Tensor::run_backward(&[total * share], &inputs, false, false);
                let flat = med.weights.lay_out(&parts);
                gradient = Some(gradient.map_or_else(|| flat.shallow_clone(), |sum| sum + &flat));
            }
        }
        let rate = learner.rate(at);
        if let Some(gradient) = gradient {
            self.adam
                .step(&mut self.med.weights.flat(), &gradient, rate);
        }
        self.record(at, &losses, rate);
        Ok(())
    }

    /// The tensors of some pairs.
    fn assemble(
        &mut self,
        places: &[u32],
        pictures: &mut dyn Iterator<Item = Result<Seen, OpError>>,
    ) -> Result<Batch, OpError> {
        let size = self.med.config.vision.image();
        self.pixels.clear();
        let mut texts = Vec::new();
        let (mut same_image, mut same_text) = (Vec::new(), Vec::new());
        for place in places {
            let (image, text) = &self.plan.pairs.pairs[*place as usize];
            match pictures
                .next()
                .expect("there is a picture for every pair of every step")?
            {
                Seen::Pixels(seen) => self.pixels.extend(seen),
                Seen::Bad(reason) => {
                    let image = self.plan.pairs.images[*image as usize].short();
                    let what = format!("the image {image} cannot be used any more: {reason}");
                    return Err(OpError::failed(
                        what,
                        "it could when it was read: check the disk, then run again",
                    ));
                }
            }
            same_image.push(i64::from(*image));
            let digest = Digest::of(text.as_bytes());
            same_text.push(i64::from_be_bytes(
                digest.as_bytes()[..8]
                    .try_into()
                    .expect("eight of 32 bytes"),
            ));
            texts.push(self.vocab.encode(
                &format!("{}{text}", self.plan.recipe.prompt),
                self.plan.recipe.length,
            ));
        }
        let device = self.med.device();
        let images = Tensor::from_slice(&self.pixels)
            .view([places.len() as i64, 3, size, size])
            .to_device(device);
        let (ids, mask) = pad(&texts, self.vocab.special().pad);
        Ok(Batch {
            images,
            ids: ids.to_device(device),
            mask: mask.to_device(device),
            same_image,
            same_text,
        })
    }

    /// A training that came off the rails does not come back.
    fn check(&self, at: At, losses: &BTreeMap<&'static str, f64>) -> Result<(), OpError> {
        if losses.values().all(|loss| loss.is_finite()) {
            return Ok(());
        }
        let listed: Vec<String> = losses
            .iter()
            .map(|(name, loss)| format!("{name} {loss}"))
            .collect();
        let what = format!(
            "the training diverged at step {} of {}: {}",
            at.step + 1,
            self.plan.total,
            listed.join(", ")
        );
        Err(OpError::failed(
            what,
            "lower `lr`, or raise `warmup` or `batch`",
        ))
    }

    fn record(&mut self, at: At, losses: &BTreeMap<&'static str, f64>, rate: f64) {
        let total: f64 = losses.values().sum();
        let named = losses
            .iter()
            .map(|(name, loss)| (*name, *loss))
            .chain([("loss", total)]);
        for (name, loss) in named {
            let sum = self.window.sums.entry(name.to_owned()).or_default();
            *sum = (sum.0 + loss, sum.1 + 1);
        }
        let step = at.step + 1;
        if step.is_multiple_of((self.plan.steps_per_epoch / EPOCH_POINTS).clamp(1, POINT_STEPS_MAX))
        {
            let means = std::mem::take(&mut self.window).sums;
            let mut values: Vec<(&str, f64)> = means
                .iter()
                .map(|(name, (sum, count))| (name.as_str(), sum / *count as f64))
                .collect();
            values.push(("lr", rate));
            self.ctx.metric(step, &values);
        }
    }

    /// Goes back to the newest checkpoint, or begins; says how many steps are done.
    fn resume(&mut self, learner: &mut dyn Learner) -> Result<u64, OpError> {
        tch::manual_seed(self.plan.random(Purpose::Start, &[]).bits().cast_signed());
        let mut checkpoint = self.ctx.checkpoints().latest();
        if checkpoint.is_none() && self.plan.recipe.grows {
            checkpoint = self.ctx.warm_start(GROWING)?;
        }
        let Some(checkpoint) = checkpoint else {
            return Ok(0);
        };
        match self.load(&checkpoint.folder, learner) {
            Ok(()) => {
                self.adam.steps = checkpoint.step as i64;
                Ok(checkpoint.step)
            }
            Err(what) => Err(OpError::failed(
                format!(
                    "the checkpoint {} cannot be used: {what}",
                    checkpoint.folder.display()
                ),
                "remove that folder: the stage then begins anew",
            )),
        }
    }

    fn load(&mut self, folder: &Path, learner: &mut dyn Learner) -> Result<(), String> {
        let notes = std::fs::read(folder.join(NOTES_FILE)).map_err(|error| error.to_string())?;
        let notes: Notes = serde_json::from_slice(&notes).map_err(|error| error.to_string())?;
        let state = store::read(&folder.join(STATE_FILE))
            .map_err(|error| error.to_string())?
            .tensors;
        let flat = |name: &str, into: &Tensor| {
            let found = state.get(name).filter(|found| found.size() == into.size());
            let found = found.ok_or_else(|| format!("it has no `{name}` of this model"))?;
            tch::no_grad(|| into.shallow_clone().copy_(found));
            Ok::<(), String>(())
        };
        flat("weights", &self.med.weights.flat())?;
        flat("adam.mean", &self.adam.mean)?;
        flat("adam.square", &self.adam.square)?;
        for (name, tensor) in self.med.weights.statistics() {
            flat(&format!("statistics.{name}"), tensor)?;
        }
        learner.restore(&state).map_err(|error| error.to_string())?;
        self.window = notes.window;
        self.ctx.restore_curves(notes.curves);
        Ok(())
    }

    fn save(&self, step: u64, learner: &dyn Learner) -> Result<(), OpError> {
        let mut state = learner.state();
        state.insert("weights".to_owned(), self.med.weights.flat());
        state.insert("adam.mean".to_owned(), self.adam.mean.shallow_clone());
        state.insert("adam.square".to_owned(), self.adam.square.shallow_clone());
        for (name, tensor) in self.med.weights.statistics() {
            state.insert(format!("statistics.{name}"), tensor.shallow_clone());
        }
        let notes = Notes {
            curves: self.ctx.curves(),
            window: self.window.clone(),
        };
        let notes = serde_json::to_vec(&notes).expect("curves are plain data with text keys");
        self.ctx.checkpoints().save(step, |folder| {
            let full = |what: String| {
                OpError::failed(what, "check the disk of the cache: is there room left?")
            };
            let named = state.iter().map(|(name, tensor)| (name.as_str(), tensor));
            store::write(&folder.join(STATE_FILE), named, None)
                .map_err(|error| full(error.to_string()))?;
            std::fs::write(folder.join(NOTES_FILE), &notes)
                .map_err(|error| full(format!("could not write the checkpoint's notes: {error}")))
        })
    }
}

/// Texts as a table, padded at their ends to the longest: ids and mask, (N, L) each.
pub(crate) fn pad(texts: &[Vec<i64>], pad: i64) -> (Tensor, Tensor) {
    let length = texts.iter().map(Vec::len).max().unwrap_or(0);
    let flat: Vec<i64> = texts
        .iter()
        .flat_map(|text| {
            text.iter()
                .copied()
                .chain(std::iter::repeat_n(pad, length - text.len()))
        })
        .collect();
    let real: Vec<bool> = texts
        .iter()
        .flat_map(|text| (0..length).map(|at| at < text.len()))
        .collect();
    let shape = [texts.len() as i64, length as i64];
    (
        Tensor::from_slice(&flat).view(shape),
        Tensor::from_slice(&real).to_kind(Kind::Bool).view(shape),
    )
}

/// The seed of a model's first values.
pub(crate) fn start_seed(seed: u64) -> u64 {
    Random::new(&[seed, Purpose::Start as u64]).bits()
}
