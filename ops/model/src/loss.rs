//! The three objectives (paper section 3.2): image-text contrast (ITC), image-text matching (ITM),
//! language modelling (LM).
//!
//! Formulas as in salesforce/BLIP models/blip_pretrain.py and blip_retrieval.py. Everything here is
//! a function of tensors.

use tch::{Kind, Reduction, Tensor};

/// Labels of this value count in no loss.
pub const IGNORED: i64 = -100;

/// Soft targets and logits of both directions of ITC.
#[derive(Debug)]
pub struct Contrast<'t> {
    /// Images and texts of the batch, (B, embed) each, with gradients.
    pub student: (&'t Tensor, &'t Tensor),
    /// The same by the momentum encoders, (B, embed) each.
    pub teacher: (&'t Tensor, &'t Tensor),
    /// What images and texts are compared with: the teacher's of the batch, then the queue, (B + Q,
    /// embed) each.
    pub all: (&'t Tensor, &'t Tensor),
    /// (B, B + Q), rows sum to 1: which of all belong to which of the batch.
    pub matches: &'t Tensor,
    /// The temperature, a scalar.
    pub temp: &'t Tensor,
    /// Share of the teacher's opinion in the targets.
    pub alpha: f64,
}

impl Contrast<'_> {
    /// Similarities over temperature, (B, B + Q) each: images with all texts, texts with all
    /// images.
    pub fn similarities(&self) -> (Tensor, Tensor) {
        let (images, texts) = self.student;
        (
            images.matmul(&self.all.1.tr()) / self.temp,
            texts.matmul(&self.all.0.tr()) / self.temp,
        )
    }

    /// The loss, given [`Contrast::similarities`]: cross-entropy with soft targets, both directions
    /// averaged.
    pub fn loss(&self, (images, texts): (&Tensor, &Tensor)) -> Tensor {
        let (teacher_images, teacher_texts) = self.teacher;
        let direction = |teacher: &Tensor, others: &Tensor, logits: &Tensor| {
            let target = tch::no_grad(|| {
                let opinion = (teacher.matmul(&others.tr()) / self.temp).softmax(-1, Kind::Float);
                opinion * self.alpha + self.matches * (1.0 - self.alpha)
            });
            -(logits.log_softmax(-1, Kind::Float) * target)
                .sum_dim_intlist([1_i64].as_slice(), false, Kind::Float)
                .mean(Kind::Float)
        };
        let to_texts = direction(teacher_images, self.all.1, images);
        let to_images = direction(teacher_texts, self.all.0, texts);
        (to_texts + to_images) / 2.0
    }
}

/// One negative for each row: drawn by these weights, (B, B) row by row, where a pair is not
/// forbidden. `None` where every weight of a row is zero, as in a batch of one.
pub fn draw_negatives(
    weights: &[f64],
    forbidden: impl Fn(usize, usize) -> bool,
    mut unit: impl FnMut() -> f64,
) -> Vec<Option<usize>> {
    let count = weights.len().isqrt();
    let draw = |(row, weights): (usize, &[f64])| {
        let weight = |(at, weight): (usize, &f64)| {
            if forbidden(row, at) {
                0.0
            } else {
                weight.max(0.0)
            }
        };
        let allowed: Vec<f64> = weights.iter().enumerate().map(weight).collect();
        let total: f64 = allowed.iter().sum();
        // A number is drawn for every row, so that a row's luck does not depend on the others'.
        let mut left = unit() * total;
        if total <= 0.0 {
            return None;
        }
        let last = allowed.iter().rposition(|weight| *weight > 0.0);
        let found = allowed.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        found.or(last)
    };
    weights.chunks(count.max(1)).enumerate().map(draw).collect()
}

/// ITM: logits (N, 2) of `positives` matching pairs and then unmatching ones.
pub fn matching(logits: &Tensor, positives: i64) -> Tensor {
    let negatives = logits.size()[0] - positives;
    let options = (Kind::Int64, logits.device());
    let labels = Tensor::cat(
        &[
            Tensor::ones([positives], options),
            Tensor::zeros([negatives], options),
        ],
        0,
    );
    logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, IGNORED, 0.0)
}

/// LM: each token predicts the next one. Logits (N, L, vocab), labels (N, L) with [`IGNORED`] where
/// nothing is to be learnt.
pub fn language(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Tensor {
    let (_, length, vocab) = logits.size3().expect("a batch of texts");
    let logits = logits.narrow(1, 0, length - 1).reshape([-1, vocab]);
    let labels = labels.narrow(1, 1, length - 1).reshape([-1]);
    logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, IGNORED, smoothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negatives_are_allowed_and_follow_the_weights() {
        let mut state = 0.0;
        let mut unit = || {
            state = (state + 0.618_034) % 1.0;
            state
        };
        let weights = [9.0, 1.0, 3.0, 1.0, 9.0, 0.0, 0.0, 0.0, 5.0];
        let mut counts = [0; 3];
        for _ in 0..400 {
            let drawn = draw_negatives(&weights, |row, at| row == at, &mut unit);
            assert_eq!(
                (drawn[1], drawn[2]),
                (Some(0), None),
                "the only other one; none of any weight"
            );
            counts[drawn[0].unwrap()] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((80..120).contains(&counts[1]), "{counts:?}");
        assert_eq!(
            draw_negatives(&[1.0], |row, at| row == at, &mut unit),
            [None],
            "a batch of one"
        );
    }

    #[test]
    fn fresh_models_lose_what_theory_says() {
        let logits = Tensor::zeros([3, 2], (Kind::Float, tch::Device::Cpu));
        assert!((matching(&logits, 1).double_value(&[]) - 2.0_f64.ln()).abs() < 1e-6);
        let logits = Tensor::zeros([1, 4, 50], (Kind::Float, tch::Device::Cpu));
        let labels = Tensor::from_slice(&[1_i64, 2, IGNORED, 3]).view([1, 4]);
        assert!((language(&logits, &labels, 0.1).double_value(&[]) - 50.0_f64.ln()).abs() < 1e-5);
    }
}
