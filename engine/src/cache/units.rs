//! Results of single units of map stages, committed in groups: `units/aa/<digest>`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::DiskError;
use super::lookup::Lookup;
use crate::dataset::Chunk;
use crate::digest::Digest;

/// Groups that are kept in memory.
const RECENT_MAX: usize = 8;

/// The results of units.
#[derive(Debug)]
pub struct Units {
    lookup: Arc<Lookup>,
    /// The groups read last, newest first: units that are looked up together were often committed
    /// together.
    recent: Mutex<VecDeque<(Digest, Arc<Chunk>)>>,
}

impl Units {
    pub(crate) fn new(lookup: Arc<Lookup>) -> Self {
        Self {
            lookup,
            recent: Mutex::default(),
        }
    }

    /// The results of units, in the order of `keys`; `None` for those that are not cached. A
    /// missing or corrupt group counts as not cached.
    pub fn get(&self, keys: &[Digest]) -> Vec<Option<Vec<u8>>> {
        if let Some(results) = self.try_get(keys) {
            return results;
        }
        // The index was wrong. Its replacement is filled from the groups themselves, so the second
        // attempt sees the truth; if even that fails, computing the units again is right.
        self.lookup.invalidate();
        self.try_get(keys).unwrap_or_else(|| vec![None; keys.len()])
    }

    /// `None` when the index points to the result of another unit.
    fn try_get(&self, keys: &[Digest]) -> Option<Vec<Option<Vec<u8>>>> {
        let locations = self.lookup.unit_locations(keys);
        let mut groups: BTreeMap<Digest, Option<Arc<Chunk>>> = BTreeMap::new();
        for location in locations.iter().flatten() {
            groups
                .entry(location.group)
                .or_insert_with(|| self.group(&location.group));
        }
        let mut results = Vec::with_capacity(keys.len());
        for (key, location) in keys.iter().zip(&locations) {
            let Some(location) = location else {
                results.push(None);
                continue;
            };
            let Some(Some(chunk)) = groups.get(&location.group) else {
                results.push(None);
                continue;
            };
            let item = chunk.items.get(location.slot as usize)?;
            if item.id != *key {
                return None;
            }
            results.push(Some(item.payload.clone()));
        }
        Some(results)
    }

    fn group(&self, digest: &Digest) -> Option<Arc<Chunk>> {
        let known = self
            .lock_recent()
            .iter()
            .find(|(known, _)| known == digest)
            .map(|(_, group)| Arc::clone(group));
        if known.is_some() {
            return known;
        }
        let group = Arc::new(self.lookup.units.get(digest)?);
        let mut recent = self.lock_recent();
        recent.push_front((*digest, Arc::clone(&group)));
        recent.truncate(RECENT_MAX);
        Some(group)
    }

    fn lock_recent(&self) -> MutexGuard<'_, VecDeque<(Digest, Arc<Chunk>)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits the results of units: they are on the disk when this returns.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn put(&self, results: Vec<(Digest, Vec<u8>)>) -> Result<(), DiskError> {
        let keys: Vec<Digest> = results.iter().map(|(key, _)| *key).collect();
        let group = self.lookup.units.put(results)?;
        self.lookup.add_units(&group, &keys);
        Ok(())
    }

    /// Adds what other processes have committed since.
    pub fn refresh(&self) {
        self.lookup.refresh_units();
    }
}
