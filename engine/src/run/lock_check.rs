//! Locked runs: every stage must have the key and the result that the lock file has.

use super::Run;
use super::reasons::last_record;
use crate::digest::Digest;
use crate::graph::NodeId;
use crate::key::{KeyInputs, differences};
use crate::op::OpError;

const HELP: &str = "undo the change, or run without --locked to accept it";

impl Run<'_, '_> {
    /// Whether a stage's key is not the one in the lock file; the stage has failed then.
    pub(super) fn violates_locked_key(
        &mut self,
        id: NodeId,
        key: &Digest,
        key_inputs: &KeyInputs,
    ) -> bool {
        let Some(locked) = &self.config.locked else {
            return false;
        };
        let name = &self.graph.node(id).name;
        let what = match locked.stages.get(&**name) {
            Some(stage) if stage.key == *key => return false,
            Some(stage) => {
                let mismatch = self.describe_mismatch(&stage.key, key, key_inputs);
                format!("it does not match the lock file: {mismatch}")
            }
            None => "the lock file has no entry for it".to_owned(),
        };
        self.fail(id, &OpError::failed(what, HELP));
        true
    }

    /// The fields of the key that differ from what was locked.
    fn describe_mismatch(&self, locked: &Digest, key: &Digest, key_inputs: &KeyInputs) -> String {
        let record = last_record(&self.config.cache, locked);
        let fields = record.map_or(Vec::new(), |record| {
            differences(&record.key_inputs, &key_inputs.fields())
        });
        if fields.is_empty() {
            // The record of what was locked is gone: the keys are all that can be compared.
            return format!("its key is {}, not {}", key.short(), locked.short());
        }
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        fields.join("; ")
    }

    /// Whether a stage's result is not the one in the lock file; the stage has failed then.
    pub(super) fn violates_locked_output(&mut self, id: NodeId, output: &Digest) -> bool {
        let Some(locked) = &self.config.locked else {
            return false;
        };
        let Some(stage) = locked.stages.get(&*self.graph.node(id).name) else {
            return false;
        };
        if stage.output == *output {
            return false;
        }
        let what = format!(
            "its result is {}, but the lock file has {}",
            output.short(),
            stage.output.short()
        );
        let help = "the same key must give the same bytes: check the op and the machine";
        self.fail(id, &OpError::failed(what, help));
        true
    }
}
