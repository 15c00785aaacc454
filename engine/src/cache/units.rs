//! Results of single units of work of map stages, committed in groups: `units/aa/<digest>`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::DiskError;
use super::lookup::Lookup;
use crate::dataset::Chunk;
use crate::digest::Digest;

/// How often a lookup starts again with another index when one lied. The second one was filled from
/// the groups themselves.
const TRIES: u32 = 2;

/// The results of units.
#[derive(Debug)]
pub struct Units {
    lookup: Arc<Lookup>,
    /// Groups read last, newest first: units that are asked for together were often committed
    /// together.
    recent: Mutex<VecDeque<(Digest, Arc<Chunk>)>>,
}

/// Groups that are kept in memory.
const RECENT_MAX: usize = 8;

impl Units {
    pub(crate) fn new(lookup: Arc<Lookup>) -> Self {
        Self {
            lookup,
            recent: Mutex::default(),
        }
    }

    /// The results of these units, in the order asked; `None` for what is not known. A group that
    /// is missing or damaged makes its units unknown.
    pub fn get(&self, keys: &[Digest]) -> Vec<Option<Vec<u8>>> {
        for _ in 1..TRIES {
            match self.try_get(keys) {
                Some(results) => return results,
                None => self.lookup.caught_lying(),
            }
        }
        self.try_get(keys).unwrap_or_else(|| vec![None; keys.len()])
    }

    /// Nothing when the index points at another unit's result.
    fn try_get(&self, keys: &[Digest]) -> Option<Vec<Option<Vec<u8>>>> {
        let places = self.lookup.unit_places(keys);
        let mut groups: BTreeMap<Digest, Option<Arc<Chunk>>> = BTreeMap::new();
        for place in places.iter().flatten() {
            groups
                .entry(place.group)
                .or_insert_with(|| self.group(&place.group));
        }
        let mut results = Vec::with_capacity(keys.len());
        for (key, place) in keys.iter().zip(&places) {
            let group = place
                .as_ref()
                .and_then(|place| Some((place.slot, groups.get(&place.group)?.as_deref()?)));
            let Some((slot, chunk)) = group else {
                results.push(None);
                continue;
            };
            let item = chunk
                .items
                .get(slot as usize)
                .filter(|item| item.id == *key)?;
            results.push(Some(item.payload.clone()));
        }
        Some(results)
    }

    fn group(&self, digest: &Digest) -> Option<Arc<Chunk>> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, group)) = recent().iter().find(|(known, _)| known == digest) {
            return Some(Arc::clone(group));
        }
        let group = Arc::new(self.lookup.units.get(digest)?);
        let mut recent = recent();
        recent.push_front((*digest, Arc::clone(&group)));
        recent.truncate(RECENT_MAX);
        Some(group)
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

    /// Takes in what other processes have committed since.
    pub fn refresh(&self) {
        self.lookup.refresh_units();
    }
}
