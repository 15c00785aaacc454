//! Learning rates as functions of the step alone, so that resuming a training needs no scheduler
//! state.

use std::f64::consts::PI;

/// The position of a training in its schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepPosition {
    /// Steps taken before this one.
    pub step: u64,
    pub steps_per_epoch: u64,
}

impl StepPosition {
    /// Completed epochs.
    pub fn epoch(self) -> u64 {
        self.step / self.steps_per_epoch.max(1)
    }
}

/// The learning rate of pretraining: linear warm-up to `peak` over the first `warmup` steps, then
/// `peak * decay^epoch`, never below `lowest`.
///
/// The official code decays by 0.9 per epoch (the paper says 0.85) and warms up over 3,000 steps
/// from 1e-6, but ends the warm-up with the first epoch; here a warm-up longer than an epoch is
/// completed.
pub fn pretraining(at: StepPosition, peak: f64, warmup: u64, decay: f64, lowest: f64) -> f64 {
    let decayed = (peak * decay.powf(at.epoch() as f64)).max(lowest);
    if at.step >= warmup {
        return decayed;
    }
    lowest + (decayed - lowest) * at.step as f64 / warmup as f64
}

/// The learning rate of finetuning: cosine annealing from `peak` to 0 without warm-up, constant
/// within an epoch.
pub fn finetuning(at: StepPosition, peak: f64, epochs: u64) -> f64 {
    peak * 0.5 * (1.0 + (PI * at.epoch() as f64 / epochs.max(1) as f64).cos())
}

/// The weight of the momentum encoders' predictions in the targets of ITC: grows linearly from 0
/// to `full` over `epochs` epochs.
pub fn alpha(at: StepPosition, full: f64, epochs: u64) -> f64 {
    full * (at.step as f64 / (epochs * at.steps_per_epoch).max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> StepPosition {
        StepPosition {
            step,
            steps_per_epoch: 100,
        }
    }

    #[test]
    fn learning_rates_follow_the_recipes() {
        let lr = |step| pretraining(at(step), 3e-4, 50, 0.9, 1e-6);
        assert_eq!(lr(0), 1e-6);
        assert_eq!((lr(50), lr(99)), (3e-4, 3e-4));
        assert!((lr(100) - 2.7e-4).abs() < 1e-12);
        assert!((lr(250) - 2.43e-4).abs() < 1e-12);
        assert_eq!(lr(100_000), 1e-6);

        let lr = |step| finetuning(at(step), 1e-5, 5);
        assert_eq!((lr(0), lr(99)), (1e-5, 1e-5));
        assert!((lr(250) - 1e-5 * 0.5 * (1.0 + (PI * 0.4).cos())).abs() < 1e-18);

        let alphas = [0, 100, 900].map(|step| alpha(at(step), 0.4, 2));
        assert_eq!(alphas, [0.0, 0.2, 0.4]);
    }
}
