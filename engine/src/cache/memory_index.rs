//! The index in memory: `--index none`, a second process at work in the same cache, and readers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::index::{Index, IndexError, Place};
use crate::digest::Digest;

/// Everything an index knows, in ordered maps.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    units: BTreeMap<Digest, Place>,
    files: BTreeMap<Digest, Digest>,
    groups: BTreeSet<Digest>,
}

impl MemoryIndex {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MemoryIndex {
    fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError> {
        let maps = self.maps();
        Ok(keys
            .iter()
            .map(|key| maps.units.get(key).copied())
            .collect())
    }

    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
        let places = (0..).map(|slot| Place {
            group: *group,
            slot,
        });
        let mut maps = self.maps();
        maps.units.extend(keys.iter().copied().zip(places));
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

    fn lasts(&self) -> bool {
        false
    }

    fn condemn(&self) {}
}

#[cfg(test)]
mod tests {
    #[test]
    fn keeps_the_contract() {
        super::super::index::contract(&super::MemoryIndex::default());
    }
}
