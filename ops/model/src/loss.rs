//! The three objectives (paper section 3.2): image-text contrastive (ITC), image-text matching
//! (ITM) and language modelling (LM).
//!
//! Formulas as in salesforce/BLIP models/blip_pretrain.py and blip_retrieval.py. Everything here is
//! a pure function of tensors.

use tch::{Kind, Reduction, Tensor};

/// Labels with this value do not count in a loss: `ignore_index` of torch's cross-entropy.
pub const IGNORE_INDEX: i64 = -100;

/// The inputs of ITC. Pairs of tensors are (images, texts).
#[derive(Debug)]
pub struct ItcInputs<'t> {
    /// The model's features of the batch, (B, embed) each, with gradients.
    pub features: (&'t Tensor, &'t Tensor),
    /// The momentum encoders' features of the batch, (B, embed) each.
    pub momentum: (&'t Tensor, &'t Tensor),
    /// What the batch is compared with: the momentum features of the batch, then those of the
    /// queue, (B + Q, embed) each.
    pub candidates: (&'t Tensor, &'t Tensor),
    /// (B, B + Q), rows sum to 1: which candidates are positives of which row.
    pub positives: &'t Tensor,
    /// The temperature, a scalar.
    pub temp: &'t Tensor,
    /// The weight of the momentum encoders' predictions in the soft targets.
    pub alpha: f64,
}

impl ItcInputs<'_> {
    /// Similarities divided by the temperature, (B, B + Q) each: of images with all texts, of
    /// texts with all images.
    pub fn similarities(&self) -> (Tensor, Tensor) {
        let (images, texts) = self.features;
        let (all_images, all_texts) = self.candidates;
        (
            images.matmul(&all_texts.tr()) / self.temp, // (B, B + Q)
            texts.matmul(&all_images.tr()) / self.temp, // (B, B + Q)
        )
    }

    /// The loss, given [`ItcInputs::similarities`]: the mean of both directions.
    pub fn loss(&self, (image_to_text, text_to_image): (&Tensor, &Tensor)) -> Tensor {
        let (images, texts) = self.momentum;
        let (all_images, all_texts) = self.candidates;
        let loss_i2t = self.soft_cross_entropy(images, all_texts, image_to_text);
        let loss_t2i = self.soft_cross_entropy(texts, all_images, text_to_image);
        (loss_i2t + loss_t2i) / 2.0
    }

    /// One direction: cross-entropy of `logits` (B, B + Q) with targets that mix the positives and
    /// the momentum encoders' own predictions (ALBEF's momentum distillation).
    fn soft_cross_entropy(
        &self,
        momentum: &Tensor,
        candidates: &Tensor,
        logits: &Tensor,
    ) -> Tensor {
        let targets = tch::no_grad(|| {
            let similarities = momentum.matmul(&candidates.tr()) / self.temp; // (B, B + Q)
            let predictions = similarities.softmax(-1, Kind::Float);
            predictions * self.alpha + self.positives * (1.0 - self.alpha)
        });
        -(logits.log_softmax(-1, Kind::Float) * targets)
            .sum_dim_intlist([1_i64].as_slice(), false, Kind::Float) // (B)
            .mean(Kind::Float)
    }
}

/// Draws one hard negative for each row. `weights` is (B, B), row by row; pairs that
/// `is_forbidden(row, column)` are never drawn. `None` for a row whose weights are all zero, as in
/// a batch of one. `uniform` gives random numbers in [0, 1).
pub fn draw_negatives(
    weights: &[f64],
    is_forbidden: impl Fn(usize, usize) -> bool,
    mut uniform: impl FnMut() -> f64,
) -> Vec<Option<usize>> {
    let count = weights.len().isqrt();
    let mut negatives = Vec::with_capacity(count);
    for (row, weights) in weights.chunks(count.max(1)).enumerate() {
        let mut allowed = Vec::with_capacity(count);
        for (column, weight) in weights.iter().enumerate() {
            allowed.push(if is_forbidden(row, column) {
                0.0
            } else {
                weight.max(0.0)
            });
        }
        // A number is drawn for every row, also for one that cannot have a negative: a row's draw
        // must not depend on the other rows.
        negatives.push(draw_index(&allowed, uniform()));
    }
    negatives
}

/// `torch.multinomial` of one sample: an index with a probability proportional to its weight.
fn draw_index(weights: &[f64], uniform: f64) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let mut remaining = uniform * total;
    let drawn = weights.iter().position(|weight| {
        remaining -= weight;
        remaining < 0.0
    });
    // Rounding can leave a remainder behind the last weight.
    drawn.or_else(|| weights.iter().rposition(|weight| *weight > 0.0))
}

/// ITM: cross-entropy of logits (N, 2), of which the first `positives` rows are matching pairs.
pub fn itm_loss(logits: &Tensor, positives: i64) -> Tensor {
    let negatives = logits.size()[0] - positives;
    let options = (Kind::Int64, logits.device());
    let ones = Tensor::ones([positives], options);
    let zeros = Tensor::zeros([negatives], options);
    let labels = Tensor::cat(&[ones, zeros], 0); // (N)
    logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, IGNORE_INDEX, 0.0)
}

/// LM: each token predicts the next one. Logits (N, L, vocab); labels (N, L), [`IGNORE_INDEX`]
/// where nothing is predicted.
pub fn lm_loss(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Tensor {
    let (_, length, vocab) = logits.size3().expect("a batch of texts");
    let logits = logits.narrow(1, 0, length - 1).reshape([-1, vocab]); // (N * (L - 1), vocab)
    let labels = labels.narrow(1, 1, length - 1).reshape([-1]); // (N * (L - 1))
    logits.cross_entropy_loss::<Tensor>(
        &labels,
        None,
        Reduction::Mean,
        IGNORE_INDEX,
        label_smoothing,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negatives_are_allowed_and_follow_the_weights() {
        let mut state = 0.0;
        let mut uniform = || {
            state = (state + 0.618_034) % 1.0;
            state
        };
        let is_same = |row: usize, column: usize| row == column;
        let weights = [9.0, 1.0, 3.0, 1.0, 9.0, 0.0, 0.0, 0.0, 5.0];
        let mut counts = [0; 3];
        for _ in 0..400 {
            let drawn = draw_negatives(&weights, is_same, &mut uniform);
            assert_eq!(drawn[1], Some(0), "the only other one with a weight");
            assert_eq!(drawn[2], None, "no other one has a weight");
            counts[drawn[0].unwrap()] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((80..120).contains(&counts[1]), "{counts:?}");
        let single = draw_negatives(&[1.0], is_same, &mut uniform);
        assert_eq!(single, [None], "a batch of one");
    }

    #[test]
    fn uniform_logits_have_the_loss_of_a_uniform_distribution() {
        let logits = Tensor::zeros([3, 2], (Kind::Float, tch::Device::Cpu));
        let loss = itm_loss(&logits, 1).double_value(&[]);
        assert!((loss - 2.0_f64.ln()).abs() < 1e-6);

        let logits = Tensor::zeros([1, 4, 50], (Kind::Float, tch::Device::Cpu));
        let labels = Tensor::from_slice(&[1_i64, 2, IGNORE_INDEX, 3]).view([1, 4]);
        let loss = lm_loss(&logits, &labels, 0.1).double_value(&[]);
        assert!((loss - 50.0_f64.ln()).abs() < 1e-5);
    }
}
