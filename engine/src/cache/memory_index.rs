//! The index in memory: for `--index none`, for readers, and for a process that finds sled open in
//! another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::index::{Index, IndexError, UnitLocation};
use crate::digest::Digest;

#[derive(Debug, Default)]
pub(crate) struct MemoryIndex(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    units: BTreeMap<Digest, UnitLocation>,
    files: BTreeMap<Digest, Digest>,
    groups: BTreeSet<Digest>,
}

impl MemoryIndex {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MemoryIndex {
    fn unit_locations(&self, keys: &[Digest]) -> Result<Vec<Option<UnitLocation>>, IndexError> {
        let maps = self.maps();
        Ok(keys
            .iter()
            .map(|key| maps.units.get(key).copied())
            .collect())
    }

    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
        let locations = (0..).map(|slot| UnitLocation {
            group: *group,
            slot,
        });
        let mut maps = self.maps();
        maps.units.extend(keys.iter().copied().zip(locations));
        maps.groups.insert(*group);
        Ok(())
    }

    fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError> {
        Ok(self.maps().files.get(stat).copied())
    }

    fn add_files(
        &self,
        group: Option<&Digest>,
        files: &[(Digest, Digest)],
    ) -> Result<(), IndexError> {
        let mut maps = self.maps();
        maps.files.extend(files.iter().copied());
        maps.groups.extend(group.copied());
        Ok(())
    }

    fn has_group(&self, group: &Digest) -> Result<bool, IndexError> {
        Ok(self.maps().groups.contains(group))
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        false
    }

    /// It ends with the process: no other one opens it.
    fn mark_corrupt(&self) {}
}

#[cfg(test)]
mod tests {
    #[test]
    fn keeps_the_contract() {
        super::super::index::check_contract(&super::MemoryIndex::default());
    }
}
