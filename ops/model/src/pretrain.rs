//! The losses of a training step, and the state that they need besides the weights: momentum
//! encoders and a feature queue (paper section 3.2).
//!
//! As salesforce/BLIP models/blip_pretrain.py for pretraining, and models/blip_retrieval.py for the
//! filter, where several texts may belong to the same image. Any size of batch and queue works.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor, no_grad};

use crate::layers::ForwardMode;
use crate::loss::{IGNORE_INDEX, ItcInputs, draw_negatives, itm_loss, lm_loss};
use crate::med::{Features, Med};
use crate::text::CrossKv;
use crate::vision::Vision;
use crate::weights::{Mismatch, Weights};

mod queue;

use self::queue::Queue;

/// The decay of the exponential moving average (paper: as in ALBEF).
pub const MOMENTUM: f64 = 0.995;
/// Bounds of the temperature, enforced at the start of every step.
const TEMPERATURE_RANGE: (f64, f64) = (0.001, 0.5);
/// Added to the weights of hard negatives in pretraining, so that every negative is possible.
const NEGATIVE_FLOOR: f64 = 1e-4;

/// Which losses are computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Objectives {
    /// Image-text contrastive.
    pub itc: bool,
    /// Image-text matching.
    pub itm: bool,
    /// Language modelling.
    pub lm: bool,
}

/// How the losses are computed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LossConfig {
    pub objectives: Objectives,
    /// Entries of the queue: 57,600 in BLIP; 0 works too.
    pub queue: i64,
    /// Finetuning of the filter: in ITC all texts of the same image are positives.
    pub same_image_is_positive: bool,
    /// Label smoothing of LM: 0.1.
    pub smoothing: f64,
}

/// Pairs as the model takes them.
#[derive(Debug)]
pub struct Batch {
    /// (B, 3, S, S), normalised
    pub images: Tensor,
    /// (B, T): tokens between `[CLS]` and `[SEP]`, padded at the end
    pub ids: Tensor,
    /// (B, T): true at tokens, false at padding
    pub mask: Tensor,
    /// For each pair, a number that identifies its image.
    pub same_image: Vec<i64>,
    /// For each pair, a number that identifies its text.
    pub same_text: Vec<i64>,
}

/// Ids of the tokens that begin texts, and of padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tokens {
    pub enc: i64,
    pub dec: i64,
    pub pad: i64,
}

/// The losses of a batch, scalars with gradients. `None` for an objective that is off, and for ITM
/// without any negative.
#[derive(Debug, Default)]
pub struct Losses {
    pub itc: Option<Tensor>,
    pub itm: Option<Tensor>,
    pub lm: Option<Tensor>,
}

impl Losses {
    /// Their unweighted sum (paper section 3.2); `None` when there is no loss.
    pub fn total(&self) -> Option<Tensor> {
        [&self.itc, &self.itm, &self.lm]
            .into_iter()
            .flatten()
            .map(Tensor::shallow_clone)
            .reduce(|sum, loss| sum + loss)
    }

    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let named = [("itc", &self.itc), ("itm", &self.itm), ("lm", &self.lm)];
        let value = |(name, loss): (_, &Option<Tensor>)| {
            let loss = loss.as_ref()?;
            Some((name, loss.double_value(&[])))
        };
        named.into_iter().filter_map(value).collect()
    }
}

/// Hard negatives of a batch, as indices into it.
struct Negatives {
    /// For each text, an image that does not match it.
    images: Vec<Option<usize>>,
    /// For each image, a text that does not match it.
    texts: Vec<Option<usize>>,
}

/// Similarities of the pairs of a batch, over temperature, (B, B) each, without gradients.
struct Similarities {
    image_to_text: Tensor,
    text_to_image: Tensor,
}

/// The momentum encoders with their queue: the state of a training besides model and optimizer.
#[derive(Debug)]
pub struct MomentumEncoder {
    config: LossConfig,
    tokens: Tokens,
    weights: Weights,
    vision: Vision,
    features: Features,
    queue: Queue,
}

/// Whether a tensor has a momentum copy: image encoder, text encoder and projections do; heads,
/// decoder and temperature do not.
fn has_momentum(name: &str) -> bool {
    [
        "vision_model.",
        "text_encoder.",
        "vision_proj.",
        "text_proj.",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

impl MomentumEncoder {
    /// The initial state: a copy of the model's encoders, and a queue of random vectors. The caller
    /// holds [`crate::device::lock`] and has seeded libtorch.
    pub fn new(med: &Med, config: LossConfig, tokens: Tokens) -> Self {
        let weights = med.weights.copy_of(has_momentum);
        let vision = Vision::new(&weights, "vision_model", &med.config.vision);
        let features = Features::new(&weights, &med.config);
        let queue = Queue::random(config.queue, med.config.embed, med.device());
        Self {
            config,
            tokens,
            weights,
            vision,
            features,
            queue,
        }
    }

    /// The losses of a batch. `first` marks the first batch of a step that accumulates several: the
    /// moving average is updated once per step. `uniform` gives random numbers in [0, 1).
    pub fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        alpha: f64,
        first: bool,
        mode: ForwardMode,
        uniform: &mut dyn FnMut() -> f64,
    ) -> Losses {
        let objectives = self.config.objectives;
        let needs_features = objectives.itc || objectives.itm;
        if needs_features {
            // All tensors are views of one buffer, and changing any of them in place invalidates
            // what autograd has recorded of the others. So this comes before the forward pass.
            let mut temp = med.weights.get("temp");
            no_grad(|| drop(temp.clamp_(TEMPERATURE_RANGE.0, TEMPERATURE_RANGE.1)));
        }
        let images = med.vision.forward(&batch.images, mode); // (B, image tokens, vision width)
        let mut losses = Losses::default();
        let mut similarities = None;
        if needs_features {
            let encoder = med.encoder();
            let features = (
                encoder.features.images(&images, mode),
                encoder.features.texts(&batch.ids, &batch.mask, mode),
            );
            if first {
                no_grad(|| self.ema_update(med));
            }
            let (loss, similar) = self.itc(&features, &encoder.temp, batch, alpha, mode);
            losses.itc = objectives.itc.then_some(loss);
            similarities = Some(similar);
        }
        if !objectives.itm && !objectives.lm {
            return losses;
        }
        // Encoder and decoder share their cross-attention, so both use the same keys and values.
        let text = if objectives.itm {
            &med.encoder().features.text
        } else {
            &med.decoder().text
        };
        let cross_kv = text.cross_kv(&images, mode);
        if objectives.itm
            && let Some(similarities) = similarities
        {
            let negatives = self.hard_negatives(batch, &similarities, uniform);
            losses.itm = self.itm(med, batch, &cross_kv, &negatives, mode);
        }
        if objectives.lm {
            losses.lm = Some(self.lm(med, batch, &cross_kv, mode));
        }
        losses
    }

    /// m <- 0.995 m + 0.005 p, for every tensor that has a momentum copy.
    fn ema_update(&mut self, med: &Med) {
        let copies = self.weights.iter().filter(|(name, _)| has_momentum(name));
        for (name, copy) in copies {
            let mut copy = copy.shallow_clone();
            let _ = copy.lerp_(&med.weights.get(name), 1.0 - MOMENTUM);
        }
    }

    /// The loss of ITC, and the similarities by which hard negatives are drawn.
    fn itc(
        &mut self,
        (images, texts): &(Tensor, Tensor),
        temp: &Tensor,
        batch: &Batch,
        alpha: f64,
        mode: ForwardMode,
    ) -> (Tensor, Similarities) {
        let count = batch.ids.size()[0];
        let (momentum_images, momentum_texts) = no_grad(|| self.momentum_features(batch, mode));
        let all_images = Tensor::cat(&[&momentum_images, &self.queue.images], 0); // (B + Q, embed)
        let all_texts = Tensor::cat(&[&momentum_texts, &self.queue.texts], 0); // (B + Q, embed)
        let ids = Tensor::from_slice(&batch.same_image).to_device(images.device());
        let inputs = ItcInputs {
            features: (images, texts),
            momentum: (&momentum_images, &momentum_texts),
            candidates: (&all_images, &all_texts),
            positives: &self.positives(&ids, count),
            temp,
            alpha,
        };
        let (image_to_text, text_to_image) = inputs.similarities(); // (B, B + Q) each
        let loss = inputs.loss((&image_to_text, &text_to_image));
        self.queue.push(&momentum_images, &momentum_texts, &ids);
        // Hard negatives are drawn by similarity to the momentum features in pretraining
        // (blip_pretrain.py), and by the model's own features in the filter (blip_retrieval.py).
        let similarities = no_grad(|| {
            if self.config.same_image_is_positive {
                let own = images.matmul(&texts.tr()) / temp; // (B, B)
                Similarities {
                    image_to_text: own.detach(),
                    text_to_image: own.tr().detach(),
                }
            } else {
                Similarities {
                    image_to_text: image_to_text.narrow(1, 0, count).detach(),
                    text_to_image: text_to_image.narrow(1, 0, count).detach(),
                }
            }
        });
        (loss, similarities)
    }

    /// Images and texts of the batch, (B, embed) each.
    fn momentum_features(&self, batch: &Batch, mode: ForwardMode) -> (Tensor, Tensor) {
        let images = self.vision.forward(&batch.images, mode); // (B, image tokens, vision width)
        (
            self.features.images(&images, mode),
            self.features.texts(&batch.ids, &batch.mask, mode),
        )
    }

    /// (B, B + Q), rows sum to 1: the pair itself, or all entries of the same image.
    fn positives(&self, ids: &Tensor, count: i64) -> Tensor {
        if !self.config.same_image_is_positive {
            let itself = Tensor::eye(count, (Kind::Float, ids.device())); // (B, B)
            return itself.constant_pad_nd([0, self.queue.len()]);
        }
        let all = Tensor::cat(&[ids, &self.queue.ids], 0); // (B + Q)
        let same = ids.unsqueeze(1).eq_tensor(&all.unsqueeze(0)); // (B, B + Q)
        let same = same.to_kind(Kind::Float);
        let total = same.sum_dim_intlist([1_i64].as_slice(), true, Kind::Float); // (B, 1)
        same / total
    }

    /// Draws hard negatives: the more similar, the more probable. Pairs of the same image or of the
    /// same text are no negatives.
    fn hard_negatives(
        &self,
        batch: &Batch,
        similarities: &Similarities,
        uniform: &mut dyn FnMut() -> f64,
    ) -> Negatives {
        let floor = if self.config.same_image_is_positive {
            0.0
        } else {
            NEGATIVE_FLOOR
        };
        let is_forbidden = |one: usize, other: usize| {
            let same = |ids: &[i64]| ids.get(one) == ids.get(other);
            one == other || same(&batch.same_image) || same(&batch.same_text)
        };
        let mut draw = |similarities: &Tensor| {
            let weights = similarities
                .softmax(-1, Kind::Float)
                .to_device(Device::Cpu)
                .reshape([-1]);
            let weights = (weights + floor).to_kind(Kind::Double);
            let weights = Vec::<f64>::try_from(&weights).expect("a row of numbers");
            draw_negatives(&weights, is_forbidden, &mut *uniform)
        };
        Negatives {
            images: draw(&similarities.text_to_image),
            texts: draw(&similarities.image_to_text),
        }
    }

    /// The loss of ITM: every pair, every text with its negative image, every image with its
    /// negative text, in one forward pass. `None` without any negative, since there is nothing to
    /// distinguish.
    fn itm(
        &self,
        med: &Med,
        batch: &Batch,
        cross_kv: &CrossKv,
        negatives: &Negatives,
        mode: ForwardMode,
    ) -> Option<Tensor> {
        let count = batch.ids.size()[0];
        let mut texts: Vec<i64> = (0..count).collect();
        let mut images = texts.clone();
        for (text, image) in (0..).zip(&negatives.images) {
            if let Some(image) = image {
                texts.push(text);
                images.push(*image as i64);
            }
        }
        for (image, text) in (0..).zip(&negatives.texts) {
            if let Some(text) = text {
                texts.push(*text as i64);
                images.push(image);
            }
        }
        if texts.len() as i64 == count {
            return None;
        }
        let device = batch.ids.device();
        let texts = Tensor::from_slice(&texts).to_device(device); // (N)
        let images = Tensor::from_slice(&images).to_device(device); // (N)
        let ids = with_first_token(self.tokens.enc, &batch.ids).index_select(0, &texts); // (N, T)
        let mask = batch.mask.index_select(0, &texts); // (N, T)
        let cross_kv = cross_kv.select(&images);
        let logits = med.encoder().match_logits(&ids, &mask, &cross_kv, mode); // (N, 2)
        Some(itm_loss(&logits, count))
    }

    fn lm(&self, med: &Med, batch: &Batch, cross_kv: &CrossKv, mode: ForwardMode) -> Tensor {
        let ids = with_first_token(self.tokens.dec, &batch.ids);
        let labels = ids.masked_fill(&batch.mask.logical_not(), IGNORE_INDEX);
        let logits = med.decoder().logits(&ids, cross_kv, mode); // (B, T, vocab)
        lm_loss(&logits, &labels, self.config.smoothing)
    }

    /// Everything that a checkpoint needs to resume, by name.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for (name, tensor) in self.weights.iter() {
            state.insert(format!("momentum.{name}"), tensor.shallow_clone());
        }
        state.insert("queue.images".to_owned(), self.queue.images.shallow_clone());
        state.insert("queue.texts".to_owned(), self.queue.texts.shallow_clone());
        state.insert("queue.ids".to_owned(), self.queue.ids.shallow_clone());
        state.insert("queue.next".to_owned(), Tensor::from(self.queue.next));
        state
    }

    /// Restores a saved state; other tensors in `state` are ignored.
    ///
    /// # Errors
    /// [`Mismatch`] when it is not the state of such a training.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        let queue = [
            ("queue.images", &mut self.queue.images),
            ("queue.texts", &mut self.queue.texts),
            ("queue.ids", &mut self.queue.ids),
        ];
        for (name, tensor) in queue {
            let saved = state.get(name);
            let saved = saved.filter(|saved| saved.size() == tensor.size());
            let saved = saved.ok_or_else(|| Mismatch {
                missing: vec![name.to_owned()],
                ..Mismatch::default()
            })?;
            no_grad(|| tensor.copy_(saved));
        }
        let next = state.get("queue.next");
        self.queue.next = next.map_or(0, |next| next.int64_value(&[]));
        let mut momentum = BTreeMap::new();
        for (name, tensor) in state {
            if let Some(name) = name.strip_prefix("momentum.") {
                momentum.insert(name.to_owned(), tensor.shallow_clone());
            }
        }
        self.weights.restore(&momentum)
    }
}

/// The ids with another first token: `[ENC]` or `[DEC]` in place of `[CLS]`.
pub fn with_first_token(token: i64, ids: &Tensor) -> Tensor {
    let ids = ids.copy();
    drop(ids.narrow(1, 0, 1).fill_(token));
    ids
}
