//! Which warm starts are still of use: those that a stage with a result in the cache has left, for
//! the same training with more steps to resume from. They hold the state of an optimizer, which is
//! larger than the model.

use std::collections::BTreeMap;

use crate::cache::records::Record;
use crate::digest::Digest;
use crate::key;

/// A warm start: the digest of the key inputs without one argument, and that argument's value.
pub(super) type WarmStart = (Digest, u64);

/// The number of records that may have left each warm start.
#[derive(Debug, Default)]
pub(super) struct WarmStarts(BTreeMap<WarmStart, u32>);

impl WarmStarts {
    pub(super) fn add(&mut self, record: &Record) {
        for warm_start in of_record(record) {
            *self.0.entry(warm_start).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, record: &Record) {
        for warm_start in of_record(record) {
            if let Some(count) = self.0.get_mut(&warm_start) {
                *count -= 1;
            }
        }
    }

    /// The records that may have left it; `None` if there were none from the start.
    pub(super) fn count(&self, warm_start: &WarmStart) -> Option<u32> {
        self.0.get(warm_start).copied()
    }
}

/// Those that the stage of a record may have left: a record does not say which of its arguments can
/// grow. The digest is that of `KeyInputs::warm_start_key`.
fn of_record(record: &Record) -> Vec<WarmStart> {
    let mut found = Vec::new();
    for (index, (name, value)) in record.key_inputs.iter().enumerate() {
        let (Some(argument), Ok(value)) = (name.strip_prefix("argument "), value.parse()) else {
            continue;
        };
        let mut rest = record.key_inputs.clone();
        rest.remove(index);
        let rest = key::hash_fields(&rest);
        let parts = [rest.as_bytes().as_slice(), argument.as_bytes()];
        found.push((Digest::parts("blip/growth/1", &parts), value));
    }
    found
}
