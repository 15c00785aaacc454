//! AdamW (Loshchilov and Hutter 2017) over one flat buffer, as `torch.optim.AdamW` computes it.
//!
//! Our own, because tch gives no access to an optimizer's state, without which no training can be
//! resumed.

use tch::{Tensor, no_grad};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// The state of the optimizer. Its tensors are laid out as the weights' buffer is.
#[derive(Debug)]
pub struct AdamW {
    /// Moving mean of gradients.
    pub mean: Tensor,
    /// Moving mean of squared gradients.
    pub square: Tensor,
    /// Steps taken.
    pub steps: i64,
    /// Share of a weight that decays per unit of learning rate; on all weights, as in the official
    /// code.
    pub weight_decay: f64,
}

impl AdamW {
    /// An optimizer that has taken no steps on `weights`.
    pub fn new(weights: &Tensor, weight_decay: f64) -> Self {
        Self {
            mean: weights.zeros_like(),
            square: weights.zeros_like(),
            steps: 0,
            weight_decay,
        }
    }

    /// Moves the weights against their gradient.
    pub fn step(&mut self, weights: &mut Tensor, gradient: &Tensor, rate: f64) {
        self.steps += 1;
        let steps = self.steps as f64;
        let (correction1, correction2) = (1.0 - BETA1.powf(steps), 1.0 - BETA2.powf(steps));
        no_grad(|| {
            let _ = weights.g_mul_scalar_(1.0 - rate * self.weight_decay);
            let _ = self.mean.lerp_(gradient, 1.0 - BETA1);
            let _ = self.square.g_mul_scalar_(BETA2);
            self.square += gradient * gradient * (1.0 - BETA2);
            let scale = self.square.sqrt() / correction2.sqrt() + EPS;
            let _ = weights.g_sub_(&(&self.mean / scale * (rate / correction1)));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of `torch.optim.AdamW([p], lr=0.1, weight_decay=0.05)` with gradients 1, then -2,
    /// then 0.5.
    #[test]
    fn steps_are_those_of_torch() {
        let mut weights = Tensor::from_slice(&[1.0_f32]);
        let mut adam = AdamW::new(&weights, 0.05);
        let mut seen = Vec::new();
        for gradient in [1.0_f32, -2.0, 0.5] {
            adam.step(&mut weights, &Tensor::from_slice(&[gradient]), 0.1);
            seen.push(weights.double_value(&[0]));
        }
        for (found, due) in seen
            .iter()
            .zip([0.895_000_001, 0.927_135_353, 0.936_168_743])
        {
            assert!((found - due).abs() < 2e-6, "{seen:?}");
        }
    }
}
