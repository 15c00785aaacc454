//! A training step: the losses of a batch, and the state they need besides the weights: momentum
//! encoders and a queue.
//!
//! As in salesforce/BLIP models/blip_pretrain.py (pretraining) and blip_retrieval.py (the filter,
//! which knows which texts belong to the same image). Any size of batch and queue works.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor, no_grad};

use crate::layers::Pass;
use crate::loss::{Contrast, draw_negatives, language, matching};
use crate::med::{Features, Med};
use crate::vision::Vision;
use crate::weights::{Mismatch, Weights};

/// Share of the old value in the moving average of the momentum encoders (paper: as in ALBEF).
pub const MOMENTUM: f64 = 0.995;
/// Bounds of the temperature, enforced at the start of every step.
const TEMPERATURE: (f64, f64) = (0.001, 0.5);
/// Added to the weights of hard negatives in pretraining, so that none is impossible.
const FLOOR: f64 = 1e-4;
/// The id of a queue entry that stands for no image.
const NO_IMAGE: i64 = -100;

/// What is learnt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Objectives {
    /// Image-text contrast.
    pub itc: bool,
    /// Image-text matching.
    pub itm: bool,
    /// Language modelling.
    pub lm: bool,
}

/// How the objectives are computed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// What is learnt.
    pub objectives: Objectives,
    /// Entries of the queue: 57,600 in BLIP; none works too.
    pub queue: i64,
    /// Texts of the same image count as matches in ITC, and never as negatives of it: the filter's
    /// finetuning.
    pub aware: bool,
    /// Label smoothing of LM: 0.1.
    pub smoothing: f64,
}

/// Pairs on their way through the model.
#[derive(Debug)]
pub struct Batch {
    /// (B, 3, S, S), normalised
    pub images: Tensor,
    /// (B, L): tokens between `[CLS]` and `[SEP]`, padded at the end
    pub ids: Tensor,
    /// (B, L): true at tokens, false at padding
    pub mask: Tensor,
    /// For each pair, a number that is the same for pairs of the same image.
    pub same_image: Vec<i64>,
    /// For each pair, a number that is the same for pairs of the same text.
    pub same_text: Vec<i64>,
}

/// Ids of the tokens that begin texts, and of padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tokens {
    /// `[ENC]`
    pub enc: i64,
    /// `[DEC]`
    pub dec: i64,
    /// `[PAD]`
    pub pad: i64,
}

/// The losses of a batch, scalars with gradients; none for what is not learnt or cannot be (ITM
/// without negatives).
#[derive(Debug, Default)]
pub struct Losses {
    /// Image-text contrast.
    pub itc: Option<Tensor>,
    /// Image-text matching.
    pub itm: Option<Tensor>,
    /// Language modelling.
    pub lm: Option<Tensor>,
}

impl Losses {
    /// Their sum, in equal parts (paper section 3.2); none when there is none.
    pub fn total(&self) -> Option<Tensor> {
        [&self.itc, &self.itm, &self.lm]
            .into_iter()
            .flatten()
            .map(Tensor::shallow_clone)
            .reduce(|sum, loss| sum + loss)
    }

    /// Names and values.
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let named = [("itc", &self.itc), ("itm", &self.itm), ("lm", &self.lm)];
        named
            .into_iter()
            .filter_map(|(name, loss)| Some((name, loss.as_ref()?.double_value(&[]))))
            .collect()
    }
}

/// Negatives of a batch: for each text an image, for each image a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negatives {
    /// The place of an unmatching image for each text.
    pub images: Vec<Option<usize>>,
    /// The place of an unmatching text for each image.
    pub texts: Vec<Option<usize>>,
}

/// The state of a training besides the model and the optimizer.
#[derive(Debug)]
pub struct Teacher {
    settings: Settings,
    tokens: Tokens,
    weights: Weights,
    vision: Vision,
    features: Features,
    queue: Queue,
}

/// Features of earlier batches by the momentum encoders.
#[derive(Debug)]
struct Queue {
    /// (Q, embed)
    images: Tensor,
    /// (Q, embed)
    texts: Tensor,
    /// (Q): which image an entry is of
    ids: Tensor,
    /// Where the next entry goes.
    next: i64,
}

/// Whether a tensor has a momentum copy: image encoder, text encoder and projections, not the
/// heads, decoder, temperature.
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

impl Teacher {
    /// The state at the start: momentum encoders equal to the model's, a queue of random vectors.
    /// The caller holds [`crate::device::exclusive`] and has seeded libtorch.
    pub fn new(med: &Med, settings: Settings, tokens: Tokens) -> Self {
        let weights = med.weights.copy_of(has_momentum);
        let vision = Vision::new(&weights, "vision_model", &med.config.vision);
        let features = Features::new(&weights, &med.config);
        let queue = Queue::random(settings.queue, med.config.embed, med.device());
        Self {
            settings,
            tokens,
            weights,
            vision,
            features,
            queue,
        }
    }

    /// The losses of a batch. With `first`, the batch is the first of its step: the momentum
    /// encoders then move towards the model. `unit` gives random numbers in [0, 1).
    pub fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        alpha: f64,
        first: bool,
        pass: Pass,
        unit: &mut dyn FnMut() -> f64,
    ) -> Losses {
        let objectives = self.settings.objectives;
        if objectives.itc || objectives.itm {
            // All tensors are views of one buffer, so none may change once autograd has seen any.
            no_grad(|| drop(med.weights.get("temp").clamp_(TEMPERATURE.0, TEMPERATURE.1)));
        }
        let images = med.vision.forward(&batch.images, pass); // (B, tokens, vision width)
        let mut losses = Losses::default();
        let mut hardness = None;
        if objectives.itc || objectives.itm {
            let encoder = med.encoder();
            let student = (
                encoder.features.images(&images, pass),
                encoder.features.texts(&batch.ids, &batch.mask, pass),
            );
            if first {
                no_grad(|| self.follow(med));
            }
            let (itc, similar) = self.contrast(&student, &encoder.temp, batch, alpha, pass);
            losses.itc = objectives.itc.then_some(itc);
            hardness = Some(similar);
        }
        if !objectives.itm && !objectives.lm {
            return losses;
        }
        // Encoder and decoder share their cross-attention, so the image's keys and values serve
        // both.
        let text = if objectives.itm {
            &med.encoder().features.text
        } else {
            &med.decoder().text
        };
        let memory = text.memory(&images, pass);
        if let (true, Some((to_texts, to_images))) = (objectives.itm, hardness) {
            let negatives = self.negatives(batch, &to_texts, &to_images, unit);
            losses.itm = self.matching(med, batch, &memory, &negatives, pass);
        }
        if objectives.lm {
            losses.lm = Some(self.language(med, batch, &memory, pass));
        }
        losses
    }

    /// m <- 0.995 m + 0.005 p, on everything that has a momentum copy.
    fn follow(&mut self, med: &Med) {
        for (name, tensor) in self.weights.iter().filter(|(name, _)| has_momentum(name)) {
            let _ = tensor
                .shallow_clone()
                .lerp_(&med.weights.get(name), 1.0 - MOMENTUM);
        }
    }

    /// The loss of ITC, and the similarities (B, B) of images with texts and of texts with images,
    /// over temperature.
    fn contrast(
        &mut self,
        (images, texts): &(Tensor, Tensor),
        temp: &Tensor,
        batch: &Batch,
        alpha: f64,
        pass: Pass,
    ) -> (Tensor, (Tensor, Tensor)) {
        let count = batch.ids.size()[0];
        let (teacher_images, teacher_texts) = no_grad(|| {
            let seen = self.vision.forward(&batch.images, pass);
            (
                self.features.images(&seen, pass),
                self.features.texts(&batch.ids, &batch.mask, pass),
            )
        });
        let all_images = Tensor::cat(&[&teacher_images, &self.queue.images], 0); // (B + Q, embed)
        let all_texts = Tensor::cat(&[&teacher_texts, &self.queue.texts], 0);
        let ids = Tensor::from_slice(&batch.same_image).to_device(images.device());
        let matches = self.matches(&ids, count);
        let contrast = Contrast {
            student: (images, texts),
            teacher: (&teacher_images, &teacher_texts),
            all: (&all_images, &all_texts),
            matches: &matches,
            temp,
            alpha,
        };
        let (to_texts, to_images) = contrast.similarities();
        let loss = contrast.loss((&to_texts, &to_images));
        self.queue.push(&teacher_images, &teacher_texts, &ids);
        // Pretraining compares with the momentum encoders' features (blip_pretrain.py), the filter
        // with the model's own (blip_retrieval.py).
        let similar = no_grad(|| {
            if self.settings.aware {
                let own = images.matmul(&texts.tr()) / temp;
                (own.detach(), own.tr().detach())
            } else {
                (
                    to_texts.narrow(1, 0, count).detach(),
                    to_images.narrow(1, 0, count).detach(),
                )
            }
        });
        (loss, similar)
    }

    /// (B, B + Q), rows sum to 1: the pair itself, or all entries of the same image.
    fn matches(&self, ids: &Tensor, count: i64) -> Tensor {
        let device = ids.device();
        if !self.settings.aware {
            let itself = Tensor::eye(count, (Kind::Float, device));
            return itself.constant_pad_nd([0, self.queue.ids.size()[0]]);
        }
        let all = Tensor::cat(&[ids, &self.queue.ids], 0);
        let same = ids
            .unsqueeze(1)
            .eq_tensor(&all.unsqueeze(0))
            .to_kind(Kind::Float);
        let total = same.sum_dim_intlist([1_i64].as_slice(), true, Kind::Float);
        same / total
    }

    /// Hard negatives: the more similar, the more probable. A pair of the same image or of the same
    /// text is none.
    fn negatives(
        &self,
        batch: &Batch,
        to_texts: &Tensor,
        to_images: &Tensor,
        unit: &mut dyn FnMut() -> f64,
    ) -> Negatives {
        let floor = if self.settings.aware { 0.0 } else { FLOOR };
        let forbidden = |one: usize, other: usize| {
            let same = |ids: &[i64]| ids.get(one) == ids.get(other);
            one == other || same(&batch.same_image) || same(&batch.same_text)
        };
        let mut draw = |similar: &Tensor| {
            let weights = similar
                .softmax(-1, Kind::Float)
                .to_device(Device::Cpu)
                .reshape([-1])
                + floor;
            let weights =
                Vec::<f64>::try_from(&weights.to_kind(Kind::Double)).expect("a row of numbers");
            draw_negatives(&weights, forbidden, &mut *unit)
        };
        Negatives {
            images: draw(to_images),
            texts: draw(to_texts),
        }
    }

    /// The loss of ITM: every pair, every text with an unmatching image, every image with an
    /// unmatching text, in one pass. None when there is no negative at all: there is nothing to
    /// tell apart.
    pub fn matching(
        &self,
        med: &Med,
        batch: &Batch,
        memory: &crate::text::Memory,
        negatives: &Negatives,
        pass: Pass,
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
        let (texts, images) = (
            Tensor::from_slice(&texts).to_device(device),
            Tensor::from_slice(&images).to_device(device),
        );
        let ids = beginning_with(self.tokens.enc, &batch.ids).index_select(0, &texts);
        let mask = batch.mask.index_select(0, &texts);
        let logits = med
            .encoder()
            .match_logits(&ids, &mask, &memory.select(&images), pass); // (N, 2)
        Some(matching(&logits, count))
    }

    fn language(
        &self,
        med: &Med,
        batch: &Batch,
        memory: &crate::text::Memory,
        pass: Pass,
    ) -> Tensor {
        let ids = beginning_with(self.tokens.dec, &batch.ids);
        let labels = ids.masked_fill(&batch.mask.logical_not(), crate::loss::IGNORED);
        language(
            &med.decoder().logits(&ids, memory, pass),
            &labels,
            self.settings.smoothing,
        )
    }

    /// Everything that has to be saved to go on: names and tensors.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let momentum = self
            .weights
            .iter()
            .map(|(name, tensor)| (format!("momentum.{name}"), tensor.shallow_clone()));
        let mut state: BTreeMap<String, Tensor> = momentum.collect();
        state.insert("queue.images".to_owned(), self.queue.images.shallow_clone());
        state.insert("queue.texts".to_owned(), self.queue.texts.shallow_clone());
        state.insert("queue.ids".to_owned(), self.queue.ids.shallow_clone());
        state.insert("queue.next".to_owned(), Tensor::from(self.queue.next));
        state
    }

    /// Puts a saved state back.
    ///
    /// # Errors
    /// [`Mismatch`] when it is not the state of such a training.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        let momentum = |(name, tensor): (&String, &Tensor)| {
            Some((
                name.strip_prefix("momentum.")?.to_owned(),
                tensor.shallow_clone(),
            ))
        };
        let queue = [
            ("queue.images", &mut self.queue.images),
            ("queue.texts", &mut self.queue.texts),
            ("queue.ids", &mut self.queue.ids),
        ];
        for (name, place) in queue {
            let found = state.get(name).filter(|found| found.size() == place.size());
            let found = found.ok_or_else(|| Mismatch {
                missing: vec![name.to_owned()],
                ..Mismatch::default()
            })?;
            no_grad(|| place.copy_(found));
        }
        self.queue.next = state
            .get("queue.next")
            .map_or(0, |next| next.int64_value(&[]));
        self.weights
            .restore(&state.iter().filter_map(momentum).collect())
    }
}

impl Queue {
    fn random(length: i64, embed: i64, device: Device) -> Self {
        let vectors = || {
            let random = Tensor::randn([length, embed], (Kind::Float, Device::Cpu));
            let norm = random.norm_scalaropt_dim(2, [1_i64].as_slice(), true);
            (random / norm).to_device(device)
        };
        Self {
            images: vectors(),
            texts: vectors(),
            ids: Tensor::full([length], NO_IMAGE, (Kind::Int64, device)),
            next: 0,
        }
    }

    /// Puts entries in, over the oldest ones. Of more entries than there is room for, the last ones
    /// stay.
    fn push(&mut self, images: &Tensor, texts: &Tensor, ids: &Tensor) {
        let (length, count) = (self.ids.size()[0], ids.size()[0]);
        let (mut from, mut left) = ((count - length).max(0), count.min(length));
        while left > 0 {
            let run = left.min(length - self.next);
            no_grad(|| {
                let put = |queue: &Tensor, new: &Tensor| {
                    queue
                        .narrow(0, self.next, run)
                        .copy_(&new.narrow(0, from, run));
                };
                put(&self.images, images);
                put(&self.texts, texts);
                put(&self.ids, ids);
            });
            self.next = (self.next + run) % length;
            from += run;
            left -= run;
        }
    }
}

/// The ids with another first token: `[ENC]` or `[DEC]` in the place of `[CLS]`.
pub fn beginning_with(token: i64, ids: &Tensor) -> Tensor {
    let ids = ids.copy();
    drop(ids.narrow(1, 0, 1).fill_(token));
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(length: i64, batches: &[&[i64]]) -> (Vec<i64>, i64) {
        let mut queue = Queue::random(length, 2, Device::Cpu);
        for batch in batches {
            let ids = Tensor::from_slice(batch);
            let features = ids.to_kind(Kind::Float).unsqueeze(1).expand([-1, 2], false);
            queue.push(&features, &features, &ids);
        }
        let firsts = Vec::<f32>::try_from(&queue.images.select(1, 0)).unwrap();
        let ids = Vec::<i64>::try_from(&queue.ids).unwrap();
        for (id, first) in ids.iter().zip(firsts).filter(|(id, _)| **id != NO_IMAGE) {
            assert_eq!(*id as f32, first);
        }
        (ids, queue.next)
    }

    #[test]
    fn a_queue_takes_batches_of_any_size() {
        let _turn = crate::device::exclusive().unwrap();
        let none = NO_IMAGE;
        assert_eq!(pushed(4, &[&[1, 2, 3]]), (vec![1, 2, 3, none], 3));
        assert_eq!(pushed(4, &[&[1, 2, 3], &[4, 5, 6]]), (vec![5, 6, 3, 4], 2));
        assert_eq!(pushed(3, &[&[1, 2, 3, 4, 5]]), (vec![3, 4, 5], 0));
        assert_eq!(pushed(0, &[&[1, 2]]), (vec![], 0));
    }
}
