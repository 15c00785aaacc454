//! Checkpoints of a training: everything that the next step depends on besides the plan.

use std::collections::BTreeMap;
use std::path::Path;

use blip_engine::OpError;
use blip_model::store;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::curve::Window;
use super::plan::Purpose;
use super::{Objective, Training};

/// The argument that may grow between two runs such that the longer training continues the shorter
/// one.
pub(super) const WARM_START_ARG: &str = "epochs";

const STATE_FILE: &str = "state.safetensors";
const NOTES_FILE: &str = "notes.json";

/// What a checkpoint holds besides tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notes {
    curves: Vec<(u64, Vec<(String, f64)>)>,
    window: Window,
}

impl Training<'_> {
    /// Restores the newest checkpoint, or the final state of a training with fewer epochs. Returns
    /// how many steps are done; 0 when there is neither.
    pub(super) fn resume(&mut self, objective: &mut dyn Objective) -> Result<u64, OpError> {
        let seed = self.plan.random(Purpose::Start, &[]).next_u64();
        tch::manual_seed(seed.cast_signed());
        let mut checkpoint = self.ctx.checkpoints().latest()?;
        // An own checkpoint is further along than what a shorter training left.
        if checkpoint.is_none() && self.plan.recipe.warm_start {
            checkpoint = self.ctx.warm_start(WARM_START_ARG)?;
        }
        let Some(checkpoint) = checkpoint else {
            return Ok(0);
        };
        match self.load(&checkpoint.folder, objective) {
            Ok(()) => {
                self.adam.steps = checkpoint.step as i64;
                Ok(checkpoint.step)
            }
            Err(what) => Err(OpError::failed(
                format!(
                    "the checkpoint {} cannot be used: {what}",
                    checkpoint.folder.display()
                ),
                "remove that folder: the stage then starts from the beginning",
            )),
        }
    }

    fn load(&mut self, folder: &Path, objective: &mut dyn Objective) -> Result<(), String> {
        let notes = std::fs::read(folder.join(NOTES_FILE)).map_err(|error| error.to_string())?;
        let notes: Notes = serde_json::from_slice(&notes).map_err(|error| error.to_string())?;
        let state = store::read(&folder.join(STATE_FILE))
            .map_err(|error| error.to_string())?
            .tensors;
        copy(&state, "weights", &self.med.weights.flat())?;
        copy(&state, "adam.mean", &self.adam.exp_avg)?;
        copy(&state, "adam.square", &self.adam.exp_avg_sq)?;
        for (name, tensor) in self.med.weights.buffers() {
            copy(&state, &format!("statistics.{name}"), tensor)?;
        }
        objective
            .restore(&state)
            .map_err(|error| error.to_string())?;
        self.window = notes.window;
        self.ctx.restore_curves(notes.curves);
        Ok(())
    }

    pub(super) fn save(&self, step: u64, objective: &dyn Objective) -> Result<(), OpError> {
        let mut state = objective.state();
        state.insert("weights".to_owned(), self.med.weights.flat());
        state.insert("adam.mean".to_owned(), self.adam.exp_avg.shallow_clone());
        state.insert(
            "adam.square".to_owned(),
            self.adam.exp_avg_sq.shallow_clone(),
        );
        for (name, tensor) in self.med.weights.buffers() {
            state.insert(format!("statistics.{name}"), tensor.shallow_clone());
        }
        let notes = Notes {
            curves: self.ctx.curves(),
            window: self.window.clone(),
        };
        let notes = serde_json::to_vec(&notes).expect("curves are plain data with text keys");
        self.ctx.checkpoints().save(step, |folder| {
            let tensors = state.iter().map(|(name, tensor)| (name.as_str(), tensor));
            store::write(&folder.join(STATE_FILE), tensors, None)
                .map_err(|error| unwritable(error.to_string()))?;
            std::fs::write(folder.join(NOTES_FILE), &notes).map_err(|error| {
                unwritable(format!("could not write the checkpoint's notes: {error}"))
            })
        })
    }
}

/// Copies a tensor of a checkpoint into one of the training. In place, since all tensors of a model
/// are views of one buffer.
fn copy(state: &BTreeMap<String, Tensor>, name: &str, into: &Tensor) -> Result<(), String> {
    let found = state
        .get(name)
        .filter(|found| found.size() == into.size())
        .ok_or_else(|| format!("it has no tensor `{name}` of this model's shape"))?;
    tch::no_grad(|| into.shallow_clone().copy_(found));
    Ok(())
}

fn unwritable(what: String) -> OpError {
    OpError::failed(what, "check the cache's disk: it may be full")
}
