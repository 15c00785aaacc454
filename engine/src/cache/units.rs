//! Results of single units of work, committed in groups: `units/aa/<digest>`, a chunk of unit key -> result.
//!
//! A group is self-describing, so the index can be filled from the folder alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskError};
use super::index::{Index, IndexError, Place};
use super::objects::sharded;
use crate::dataset::{Chunk, Item};
use crate::digest::Digest;

/// The groups and the index over them.
#[derive(Debug)]
pub struct Units {
    folder: PathBuf,
    disk: Disk,
    index: Box<dyn Index>,
}

impl Units {
    /// The units below `cache`.
    pub fn new(cache: &Path, disk: Disk, index: Box<dyn Index>) -> Self {
        Self { folder: cache.join("units"), disk, index }
    }

    /// The results of these units, in the order asked; `None` for what is not known. A group that is missing or damaged
    /// makes its units unknown.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn get(&self, keys: &[Digest]) -> Result<Vec<Option<Vec<u8>>>, IndexError> {
        let places = self.index.units(keys)?;
        let mut groups: BTreeMap<Digest, Option<Chunk>> = BTreeMap::new();
        for place in places.iter().flatten() {
            groups.entry(place.group).or_insert_with(|| self.group(&place.group));
        }
        let result = |(key, place): (&Digest, &Option<Place>)| {
            let place = place.as_ref()?;
            let item = groups.get(&place.group)?.as_ref()?.items.get(place.slot as usize)?;
            (item.id == *key).then(|| item.payload.clone())
        };
        Ok(keys.iter().zip(&places).map(result).collect())
    }

    /// Commits the results of units.
    ///
    /// # Errors
    /// [`DiskError`]. The index is told afterwards; what it forgets, the next start finds in the group.
    pub fn put(&self, results: Vec<(Digest, Vec<u8>)>) -> Result<(), DiskError> {
        let items: Vec<Item> = results.into_iter().map(|(id, payload)| Item { id, payload }).collect();
        let keys: Vec<Digest> = items.iter().map(|item| item.id).collect();
        let bytes = Chunk { items }.encode();
        let group = Digest::of(&bytes);
        let path = sharded(&self.folder, &group);
        if !path.is_file() {
            self.disk.write(&path, &bytes)?;
        }
        if let Err(error) = self.index.add_units(&group, &keys) {
            tracing::warn!(%error, "a group of units is on disk but not in the index");
        }
        Ok(())
    }

    /// The index, for what else it remembers.
    pub fn index(&self) -> &dyn Index {
        self.index.as_ref()
    }

    /// Fills an index that is new from the groups there are; says so if there were any.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn fill_index(&self) -> Result<Option<String>, IndexError> {
        if self.index.complete()? {
            return Ok(None);
        }
        let mut count = 0_usize;
        for group in self.groups() {
            let Some(chunk) = self.group(&group) else { continue };
            let keys: Vec<Digest> = chunk.items.iter().map(|item| item.id).collect();
            self.index.add_units(&group, &keys)?;
            count += keys.len();
        }
        self.index.set_complete()?;
        self.index.flush()?;
        Ok((count > 0).then(|| format!("the index was built from the cache: {count} results of units")))
    }

    fn groups(&self) -> Vec<Digest> {
        let mut groups: Vec<Digest> = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let entries = fs::read_dir(folder.path()).into_iter().flatten().flatten();
            groups.extend(entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Digest>().ok()));
        }
        groups.sort_unstable();
        groups
    }

    fn group(&self, digest: &Digest) -> Option<Chunk> {
        let bytes = fs::read(sharded(&self.folder, digest)).ok()?;
        if Digest::of(&bytes) != *digest {
            tracing::warn!(group = %digest, "a damaged group of units: its units count as unknown");
            return None;
        }
        Chunk::decode(&bytes).ok()
    }
}
