//! The loop of every training stage: batches in a seeded order, steps, checkpoints, curves.
//!
//! Everything random is a function of (seed, purpose, step), so resuming needs no state of any
//! random generator, and a run that was killed at any step ends in the same bytes as one that was
//! not.

pub(crate) mod args;
mod checkpoint;
mod curve;
mod pairs;
mod plan;

use std::collections::BTreeMap;

use blip_data::augment::Augmentation;
use blip_data::vocab::Vocab;
use blip_engine::{Args, Digest, OpError, StageCtx};
use blip_model::optimizer::AdamW;
use blip_model::pretrain::{Batch, Losses};
use blip_model::schedule::StepPosition;
use blip_model::weights::Mismatch;
use blip_model::{ForwardMode, Med};
use tch::{Kind, Tensor};

use self::checkpoint::WARM_START_ARG;
use self::curve::Window;
pub(crate) use self::pairs::TrainingPairs;
pub(crate) use self::plan::start_seed;
use self::plan::{Plan, Purpose};
use crate::image_loader::{ImageLoader, LoadedImage};
use crate::image_store::ImageStore;

/// How a model is trained, whatever the objective.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) epochs: u64,
    /// Pairs of a step.
    pub(crate) batch: usize,
    /// Micro-batches of a step, whose gradients are summed.
    pub(crate) accumulate: usize,
    pub(crate) seed: u64,
    pub(crate) augmentation: Augmentation,
    /// Multiply matrices in bfloat16.
    pub(crate) bf16: bool,
    pub(crate) weight_decay: f64,
    /// Longest text in tokens, the first and the last one included.
    pub(crate) length: usize,
    /// What every text begins with.
    pub(crate) prompt: String,
    /// Whether a training with more epochs continues one with fewer. Only valid when the learning
    /// rate depends on the step alone, not on the number of epochs.
    pub(crate) warm_start: bool,
}

impl Recipe {
    /// Reads the arguments that all training ops have in common.
    pub(crate) fn new(args: &Args, length: usize, prompt: &str) -> Result<Self, OpError> {
        let batch = args.count("batch")? as usize;
        let accumulate = args.count("accumulate")? as usize;
        if accumulate > batch {
            let what = format!("cannot split a batch of {batch} into {accumulate} micro-batches");
            return Err(OpError::failed(what, "lower `accumulate` or raise `batch`"));
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
            bf16: args.string("precision")? == "bf16",
            weight_decay: args.float("weight_decay")?,
            length,
            prompt: prompt.to_owned(),
            warm_start: false,
        })
    }
}

/// What a training minimizes, and how fast.
pub(crate) trait Objective {
    fn learning_rate(&self, at: StepPosition) -> f64;
    /// The losses of a micro-batch; `first` says that it is the first one of its step. `rng` draws
    /// numbers in [0, 1).
    fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        at: StepPosition,
        first: bool,
        pass: ForwardMode,
        rng: &mut dyn FnMut() -> f64,
    ) -> Losses;
    /// What a checkpoint must hold besides weights and optimizer.
    fn state(&self) -> BTreeMap<String, Tensor>;
    /// Restores what [`Objective::state`] returned.
    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Mismatch>;
}

/// Trains `med` on the pairs and returns metrics: the number of steps and pairs and the last point
/// of the curve. The caller holds [`blip_model::device::lock`].
pub(crate) fn train(
    ctx: &StageCtx,
    recipe: &Recipe,
    med: &Med,
    pairs: &TrainingPairs,
    vocab: &Vocab,
    objective: &mut dyn Objective,
) -> Result<Vec<(String, f64)>, OpError> {
    let plan = Plan::new(recipe, pairs);
    let mut training = Training {
        ctx,
        plan,
        med,
        vocab,
        adam: AdamW::new(&med.weights.flat(), recipe.weight_decay),
        window: Window::default(),
        pixels: Vec::new(),
    };
    let start = training.resume(objective)?;
    if start > 0 {
        ctx.resumed(start, plan.total, "steps");
    }
    training.run(start, objective)?;
    let mut metrics = vec![
        ("steps".to_owned(), plan.total as f64),
        ("pairs".to_owned(), pairs.len() as f64),
    ];
    if let Some((_, values)) = ctx.curves().last() {
        let losses = values.iter().filter(|(name, _)| name != "lr");
        metrics.extend(losses.cloned());
    }
    Ok(metrics)
}

struct Training<'a> {
    ctx: &'a StageCtx,
    plan: Plan<'a>,
    med: &'a Med,
    vocab: &'a Vocab,
    adam: AdamW,
    window: Window,
    /// The pixels of a micro-batch. Kept between steps: the operating system takes its time to map
    /// 100 MB of memory.
    pixels: Vec<f32>,
}

impl Training<'_> {
    fn run(&mut self, start: u64, objective: &mut dyn Objective) -> Result<(), OpError> {
        let size = u32::try_from(self.med.config.vision.image())
            .expect("images are at most 4096 pixels wide");
        let loader = ImageLoader::with_cache(ImageStore::of_upstream(self.ctx)?, size);
        let mut images = loader.load(self.plan.decode_requests(start))?;
        let mut order: Option<(u64, Vec<u32>)> = None;
        for step in start..self.plan.total {
            if self.ctx.interrupted() {
                self.save(step, objective)?;
                return Err(OpError::Interrupted);
            }
            let at = StepPosition {
                step,
                steps_per_epoch: self.plan.steps_per_epoch,
            };
            let epoch = at.epoch();
            let order = match &mut order {
                Some((known, order)) if *known == epoch => order,
                slot => &mut slot.insert((epoch, self.plan.order(epoch))).1,
            };
            let first = (step % self.plan.steps_per_epoch) as usize * self.plan.batch;
            let pairs = &order[first..first + self.plan.batch];
            self.step(at, pairs, &mut images, objective)?;
            self.ctx.progress(step + 1, self.plan.total, "steps");
            // The state after the last step is the stage's result and needs no checkpoint.
            if step + 1 < self.plan.total && self.ctx.checkpoints().due(step + 1) {
                self.save(step + 1, objective)?;
            }
        }
        if self.plan.recipe.warm_start {
            self.save(self.plan.total, objective)?;
            self.ctx.save_warm_start(WARM_START_ARG)?;
        }
        Ok(())
    }

    /// One step of the optimizer, on these pairs.
    fn step(
        &mut self,
        at: StepPosition,
        pairs: &[u32],
        images: &mut dyn Iterator<Item = Result<LoadedImage, OpError>>,
        objective: &mut dyn Objective,
    ) -> Result<(), OpError> {
        let micro_batch = pairs.len().div_ceil(self.plan.recipe.accumulate);
        let pass = ForwardMode {
            train: true,
            bf16: self.plan.recipe.bf16,
        };
        let med = self.med;
        let inputs: Vec<&Tensor> = med.weights.parameters().collect();
        let mut gradient: Option<Tensor> = None;
        let mut losses: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (number, pairs) in pairs.chunks(micro_batch).enumerate() {
            let batch = self.assemble(pairs, images)?;
            let stream = [at.step, number as u64];
            let dropout_seed = self.plan.random(Purpose::Dropout, &stream).next_u64();
            tch::manual_seed(dropout_seed.cast_signed());
            let mut negatives = self.plan.random(Purpose::Negatives, &stream);
            let mut rng = || negatives.uniform();
            let found = objective.losses(med, &batch, at, number == 0, pass, &mut rng);
            let share = pairs.len() as f64 / self.plan.batch as f64;
            for (name, value) in found.values() {
                *losses.entry(name).or_default() += value * share;
            }
            // Before the gradients are applied: a checkpoint must never hold NaN.
            self.check_finite(at, &losses)?;
            if let Some(total) = found.total() {
                let gradients = Tensor::run_backward(&[total * share], &inputs, false, false);
                let flat = med.weights.flatten(&gradients);
                gradient = Some(match gradient {
                    Some(sum) => sum + flat,
                    None => flat,
                });
            }
        }
        let learning_rate = objective.learning_rate(at);
        if let Some(gradient) = gradient {
            let mut weights = med.weights.flat();
            self.adam.step(&mut weights, &gradient, learning_rate);
        }
        self.record(at, &losses, learning_rate);
        Ok(())
    }

    /// The tensors of some pairs.
    fn assemble(
        &mut self,
        pairs: &[u32],
        images: &mut dyn Iterator<Item = Result<LoadedImage, OpError>>,
    ) -> Result<Batch, OpError> {
        self.pixels.clear();
        let mut texts = Vec::new();
        let (mut same_image, mut same_text) = (Vec::new(), Vec::new());
        for pair in pairs {
            let (image, text) = self.plan.pairs.pair(*pair);
            let loaded = images
                .next()
                .expect("there is an image for every pair of every step")?;
            match loaded {
                LoadedImage::Pixels(pixels) => self.pixels.extend(pixels),
                LoadedImage::Undecodable(reason) => {
                    let image = self.plan.pairs.digest(image);
                    return Err(no_longer_decodes(&image, &reason));
                }
            }
            same_image.push(i64::from(image));
            same_text.push(text_id(text));
            let text = format!("{}{text}", self.plan.recipe.prompt);
            texts.push(self.vocab.encode(&text, self.plan.recipe.length));
        }
        let size = self.med.config.vision.image();
        let device = self.med.device();
        let images = Tensor::from_slice(&self.pixels)
            .view([pairs.len() as i64, 3, size, size])
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

    /// Fails when a loss is NaN or infinite: a training that diverged does not recover.
    fn check_finite(
        &self,
        at: StepPosition,
        losses: &BTreeMap<&'static str, f64>,
    ) -> Result<(), OpError> {
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
}

/// A number that is equal for equal texts: the first 8 bytes of the digest.
fn text_id(text: &str) -> i64 {
    let digest = Digest::of(text.as_bytes());
    let bytes = digest.as_bytes()[..8]
        .try_into()
        .expect("eight of 32 bytes");
    i64::from_be_bytes(bytes)
}

fn no_longer_decodes(image: &Digest, reason: &str) -> OpError {
    OpError::failed(
        format!(
            "the image {} can no longer be decoded: {reason}",
            image.short()
        ),
        "it was decoded when it was read: check the disk, then run again",
    )
}

/// Texts as a table, padded at their ends to the longest: ids and mask, (N, L) each.
pub(crate) fn pad(texts: &[Vec<i64>], pad: i64) -> (Tensor, Tensor) {
    let length = texts.iter().map(Vec::len).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(texts.len() * length);
    let mut mask = Vec::with_capacity(texts.len() * length);
    for text in texts {
        ids.extend(text);
        ids.extend(std::iter::repeat_n(pad, length - text.len()));
        mask.extend((0..length).map(|position| position < text.len()));
    }
    let shape = [texts.len() as i64, length as i64];
    (
        Tensor::from_slice(&ids).view(shape),
        Tensor::from_slice(&mask).to_kind(Kind::Bool).view(shape),
    )
}
