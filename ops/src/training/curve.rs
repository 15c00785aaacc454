//! The loss curves of a training: means over windows of steps.

use std::collections::BTreeMap;

use blip_model::schedule::StepPosition;
use serde::{Deserialize, Serialize};

use super::Training;

/// Points of a curve per epoch, about. A point also comes at least every [`POINT_STEPS_MAX`] steps.
/// Neither depends on the number of epochs, so that a training that continues a shorter one has the
/// same curve as one that did not.
const EPOCH_POINTS: u64 = 20;
const POINT_STEPS_MAX: u64 = 50;

/// Sums of losses since the last point of the curve, and how many there were.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    sums: BTreeMap<String, (f64, u64)>,
}

impl Window {
    fn add(&mut self, name: &str, loss: f64) {
        let (sum, count) = self.sums.entry(name.to_owned()).or_default();
        *sum += loss;
        *count += 1;
    }

    /// The means by name; the window is empty afterwards.
    fn take_means(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(&mut self.sums);
        sums.into_iter()
            .map(|(name, (sum, count))| (name, sum / count as f64))
            .collect()
    }
}

impl Training<'_> {
    /// Adds the losses of a step to the curve.
    pub(super) fn record(
        &mut self,
        at: StepPosition,
        losses: &BTreeMap<&'static str, f64>,
        learning_rate: f64,
    ) {
        for (name, loss) in losses {
            self.window.add(name, *loss);
        }
        self.window.add("loss", losses.values().sum());
        let step = at.step + 1;
        let point_steps = (self.plan.steps_per_epoch / EPOCH_POINTS).clamp(1, POINT_STEPS_MAX);
        if !step.is_multiple_of(point_steps) {
            return;
        }
        let means = self.window.take_means();
        let mut values: Vec<(&str, f64)> = means
            .iter()
            .map(|(name, mean)| (name.as_str(), *mean))
            .collect();
        values.push(("lr", learning_rate));
        self.ctx.metric(step, &values);
    }
}
