//! Learning rates as functions of the step alone: nothing of them has to be saved to resume.

use std::f64::consts::PI;

/// Where a training is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// Steps taken before this one.
    pub step: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
}

impl At {
    /// Epochs completed.
    pub fn epoch(self) -> u64 {
        self.step / self.steps_per_epoch.max(1)
    }
}

/// Pretraining: up to `peak` over the first `warmup` steps, then `peak * decay^epoch`, never below
/// `lowest`.
///
/// The official code decays by 0.9 an epoch (the paper says 0.85) and warms up over 3,000 steps
/// from 1e-6, but stops the warm-up at the end of the first epoch; here a warm-up that is longer
/// than an epoch is completed.
pub fn pretraining(at: At, peak: f64, warmup: u64, decay: f64, lowest: f64) -> f64 {
    let decayed = (peak * decay.powf(at.epoch() as f64)).max(lowest);
    if at.step >= warmup {
        return decayed;
    }
    lowest + (decayed - lowest) * at.step as f64 / warmup as f64
}

/// Finetuning: a cosine from `peak` to nothing that changes at the ends of epochs, without warm-up.
pub fn finetuning(at: At, peak: f64, epochs: u64) -> f64 {
    peak * 0.5 * (1.0 + (PI * at.epoch() as f64 / epochs.max(1) as f64).cos())
}

/// The teacher's share in the targets of ITC: grows from nothing to `full` over `epochs` epochs.
pub fn alpha(at: At, full: f64, epochs: u64) -> f64 {
    full * (at.step as f64 / (epochs * at.steps_per_epoch).max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> At {
        At {
            step,
            steps_per_epoch: 100,
        }
    }

    #[test]
    fn rates_follow_the_recipes() {
        let rate = |step| pretraining(at(step), 3e-4, 50, 0.9, 1e-6);
        assert_eq!(rate(0), 1e-6);
        assert_eq!((rate(50), rate(99)), (3e-4, 3e-4));
        assert!((rate(100) - 2.7e-4).abs() < 1e-12 && (rate(250) - 2.43e-4).abs() < 1e-12);
        assert_eq!(rate(100_000), 1e-6);
        let rate = |step| finetuning(at(step), 1e-5, 5);
        assert_eq!((rate(0), rate(99)), (1e-5, 1e-5));
        assert!((rate(250) - 1e-5 * 0.5 * (1.0 + (PI * 0.4).cos())).abs() < 1e-18);
        assert_eq!(
            (
                alpha(at(0), 0.4, 2),
                alpha(at(100), 0.4, 2),
                alpha(at(900), 0.4, 2)
            ),
            (0.0, 0.2, 0.4)
        );
    }
}
