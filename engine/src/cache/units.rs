//! Results of single units of map stages, committed in groups: `units/aa/<digest>`.

use std::collections::btree_map::Entry;
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
    ///
    /// # Errors
    /// [`DiskError`] when a group cannot be read.
    pub fn get(&self, keys: &[Digest]) -> Result<Vec<Option<Vec<u8>>>, DiskError> {
        if let Some(results) = self.try_get(keys)? {
            return Ok(results);
        }
        // The index was wrong. Its replacement is filled from the groups themselves, so the second
        // attempt sees the truth; if even that fails, computing the units again is right.
        self.lookup.invalidate();
        let results = self.try_get(keys)?;
        Ok(results.unwrap_or_else(|| vec![None; keys.len()]))
    }

    /// `None` when the index points to the result of another unit.
    fn try_get(&self, keys: &[Digest]) -> Result<Option<Vec<Option<Vec<u8>>>>, DiskError> {
        let locations = self.lookup.unit_locations(keys)?;
        let mut groups: BTreeMap<Digest, Option<Arc<Chunk>>> = BTreeMap::new();
        for location in locations.iter().flatten() {
            if let Entry::Vacant(entry) = groups.entry(location.group) {
                entry.insert(self.group(&location.group)?);
            }
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
            match chunk.items.get(location.slot as usize) {
                Some(item) if item.id == *key => results.push(Some(item.payload.clone())),
                _ => return Ok(None),
            }
        }
        Ok(Some(results))
    }

    fn group(&self, digest: &Digest) -> Result<Option<Arc<Chunk>>, DiskError> {
        let known = self
            .lock_recent()
            .iter()
            .find(|(known, _)| known == digest)
            .map(|(_, group)| Arc::clone(group));
        if known.is_some() {
            return Ok(known);
        }
        let Some(chunk) = self.lookup.units.get(digest)? else {
            return Ok(None);
        };
        let group = Arc::new(chunk);
        let mut recent = self.lock_recent();
        recent.push_front((*digest, Arc::clone(&group)));
        recent.truncate(RECENT_MAX);
        Ok(Some(group))
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
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be read.
    pub fn refresh(&self) -> Result<(), DiskError> {
        self.lookup.refresh_units()
    }
}
