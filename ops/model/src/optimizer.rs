//! AdamW (Loshchilov and Hutter 2017) on one flat buffer, as `torch.optim.AdamW` computes it.
//!
//! tch's own optimizer gives no access to its state, without which a training cannot be resumed.

use tch::{Tensor, no_grad};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// The optimizer's state, in PyTorch's names. The tensors are laid out like the weights' buffer.
#[derive(Debug)]
pub struct AdamW {
    /// Moving average of gradients.
    pub exp_avg: Tensor,
    /// Moving average of squared gradients.
    pub exp_avg_sq: Tensor,
    /// Steps taken.
    pub steps: i64,
    /// Applied to all weights, biases and norms included, as in the official code.
    pub weight_decay: f64,
}

impl AdamW {
    /// An optimizer that has not taken a step on `weights` yet.
    pub fn new(weights: &Tensor, weight_decay: f64) -> Self {
        Self {
            exp_avg: weights.zeros_like(),
            exp_avg_sq: weights.zeros_like(),
            steps: 0,
            weight_decay,
        }
    }

    /// Updates the weights in place.
    pub fn step(&mut self, weights: &mut Tensor, gradient: &Tensor, lr: f64) {
        self.steps += 1;
        let steps = self.steps as f64;
        let bias_correction1 = 1.0 - BETA1.powf(steps);
        let bias_correction2 = 1.0 - BETA2.powf(steps);
        no_grad(|| {
            let _ = weights.g_mul_scalar_(1.0 - lr * self.weight_decay);
            let _ = self.exp_avg.lerp_(gradient, 1.0 - BETA1);
            let _ = self.exp_avg_sq.g_mul_scalar_(BETA2);
            self.exp_avg_sq += gradient * gradient * (1.0 - BETA2);
            let denominator = self.exp_avg_sq.sqrt() / bias_correction2.sqrt() + EPS;
            let step_size = lr / bias_correction1;
            let _ = weights.g_sub_(&(&self.exp_avg / denominator * step_size));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `torch.optim.AdamW([p], lr=0.1, weight_decay=0.05)` with gradients 1, -2, 0.5.
    #[test]
    fn steps_equal_those_of_torch() {
        let mut weights = Tensor::from_slice(&[1.0_f32]);
        let mut adam = AdamW::new(&weights, 0.05);
        let mut values = Vec::new();
        for gradient in [1.0_f32, -2.0, 0.5] {
            adam.step(&mut weights, &Tensor::from_slice(&[gradient]), 0.1);
            values.push(weights.double_value(&[0]));
        }
        let expected = [0.895_000_001, 0.927_135_353, 0.936_168_743];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 2e-6, "{values:?}");
        }
    }
}
