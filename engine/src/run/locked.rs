//! Runs that have to come to what a lock file says.

use super::{Run, last_record};
use crate::digest::Digest;
use crate::graph::NodeId;
use crate::key::{KeyInputs, differences};
use crate::op::OpError;

const HELP: &str = "undo the change, or run without --locked to accept it";

impl Run<'_, '_> {
    /// Whether a stage has another key than the lock file says; it has failed then.
    pub(super) fn deviates(&mut self, id: NodeId, key: &Digest, key_inputs: &KeyInputs) -> bool {
        let Some(locked) = &self.config.locked else {
            return false;
        };
        let name = &self.graph.node(id).name;
        let what = match locked.stages.get(&**name) {
            Some(stage) if stage.key == *key => return false,
            Some(stage) => {
                let last = last_record(&self.config.cache, &stage.key);
                let fields = last.map_or(Vec::new(), |last| {
                    differences(&last.key_inputs, &key_inputs.fields())
                });
                let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
                // Without the record of what was locked, the keys are all there is to say.
                let keys = || format!("its key is {}, not {}", key.short(), stage.key.short());
                let told = if fields.is_empty() {
                    keys()
                } else {
                    fields.join("; ")
                };
                format!("it deviates from the lock file: {told}")
            }
            None => "it is not in the lock file".to_owned(),
        };
        self.fail(id, &OpError::failed(what, HELP));
        true
    }

    /// Whether a stage's result is another one than the lock file says; it has failed then.
    pub(super) fn deviates_in(&mut self, id: NodeId, output: &Digest) -> bool {
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
            "it gave {}, not {} as in the lock file",
            output.short(),
            stage.output.short()
        );
        self.fail(
            id,
            &OpError::failed(
                what,
                "the same key should give the same bytes: look at the op and the machine",
            ),
        );
        true
    }
}
