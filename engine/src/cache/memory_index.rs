//! The index in memory: `--index none`, and tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::index::{Index, IndexError, Place};
use crate::digest::Digest;

/// Everything an index knows, in ordered maps.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    units: BTreeMap<Digest, Place>,
    files: BTreeMap<Vec<u8>, Digest>,
    complete: bool,
}

impl MemoryIndex {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MemoryIndex {
    fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError> {
        let maps = self.maps();
        Ok(keys.iter().map(|key| maps.units.get(key).copied()).collect())
    }

    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
        let places = (0..).map(|slot| Place { group: *group, slot });
        self.maps().units.extend(keys.iter().copied().zip(places));
        Ok(())
    }

    fn file(&self, stat: &[u8]) -> Result<Option<Digest>, IndexError> {
        Ok(self.maps().files.get(stat).copied())
    }

    fn add_file(&self, stat: &[u8], digest: &Digest) -> Result<(), IndexError> {
        self.maps().files.insert(stat.to_vec(), *digest);
        Ok(())
    }

    fn complete(&self) -> Result<bool, IndexError> {
        Ok(self.maps().complete)
    }

    fn set_complete(&self) -> Result<(), IndexError> {
        self.maps().complete = true;
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn keeps_the_contract() {
        super::super::index::contract(&super::MemoryIndex::default());
    }
}
