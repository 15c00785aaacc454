//! The index as the rest of the cache sees it: it never fails and never lies for long.
//!
//! What it lacks it reads from the groups: those of other processes, and those whose entries a kill took from sled's
//! memory. An index that fails or says what is not so is condemned, and one in memory takes its place until the end of
//! the run.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::groups::Groups;
use super::index::{Index, IndexError, Place};
use super::memory_index::MemoryIndex;
use crate::dataset::Chunk;
use crate::digest::Digest;

/// An index and the groups it is filled from.
#[derive(Debug)]
pub(crate) struct Lookup {
    index: RwLock<Arc<dyn Index>>,
    pub(crate) units: Groups,
    pub(crate) files: Groups,
    units_seen: AtomicBool,
    files_seen: AtomicBool,
    notes: Mutex<Vec<String>>,
}

impl Lookup {
    pub(crate) fn new(index: Arc<dyn Index>, units: Groups, files: Groups) -> Self {
        Self {
            index: RwLock::new(index),
            units,
            files,
            units_seen: AtomicBool::new(false),
            files_seen: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    /// Fills an index that is new, and says so if there was anything to fill it with. `aside` is where the one before is.
    pub(crate) fn fill(&self, aside: Option<&Path>) {
        let count = self.refresh_units() + self.refresh_files();
        let built = format!("it was built again from the {count} results in the cache");
        match aside {
            Some(aside) => self.note(format!("the index was damaged: {built}; the old one is in {}", aside.display())),
            None if count > 0 => self.note(format!("the index was missing: {built}")),
            None => {}
        }
    }

    /// What a user should hear about the index since it was last asked.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Takes in the groups of units that the index has not seen; says how many units they had.
    pub(crate) fn refresh_units(&self) -> usize {
        self.units_seen.store(true, Ordering::Release);
        self.refresh(&self.units, |index, group, chunk| {
            let keys: Vec<Digest> = chunk.items.iter().map(|item| item.id).collect();
            index.add_units(group, &keys)
        })
    }

    /// The same for the digests of user's files.
    pub(crate) fn refresh_files(&self) -> usize {
        self.files_seen.store(true, Ordering::Release);
        self.refresh(&self.files, |index, group, chunk| {
            let entry = |item: &crate::dataset::Item| {
                Some((item.id, Digest::from_bytes(item.payload.as_slice().try_into().ok()?)))
            };
            let files: Vec<(Digest, Digest)> = chunk.items.iter().filter_map(entry).collect();
            index.add_files(Some(group), &files)
        })
    }

    fn refresh(&self, groups: &Groups, add: impl Fn(&dyn Index, &Digest, &Chunk) -> Result<(), IndexError>) -> usize {
        let mut count = 0;
        for group in groups.list() {
            if self.ask(|index| index.has_group(&group)) {
                continue;
            }
            if let Some(chunk) = groups.get(&group) {
                self.ask(|index| add(index, &group, &chunk));
                count += chunk.items.len();
            }
        }
        count
    }

    /// The places of units, in the order asked.
    pub(crate) fn unit_places(&self, keys: &[Digest]) -> Vec<Option<Place>> {
        loop {
            if !self.units_seen.load(Ordering::Acquire) {
                self.refresh_units();
            }
            let places = self.ask(|index| index.units(keys));
            // Otherwise the index was replaced just now, and the new one has not seen the groups.
            if self.units_seen.load(Ordering::Acquire) {
                return places;
            }
        }
    }

    /// Remembers the units of a group.
    pub(crate) fn add_units(&self, group: &Digest, keys: &[Digest]) {
        self.ask(|index| index.add_units(group, keys));
    }

    /// The digest of a user's file.
    pub(crate) fn file(&self, stat: &Digest) -> Option<Digest> {
        loop {
            if !self.files_seen.load(Ordering::Acquire) {
                self.refresh_files();
            }
            let digest = self.ask(|index| index.file(stat));
            if self.files_seen.load(Ordering::Acquire) {
                return digest;
            }
        }
    }

    /// Remembers digests of user's files.
    pub(crate) fn add_files(&self, group: Option<&Digest>, files: &[(Digest, Digest)]) {
        self.ask(|index| index.add_files(group, files));
    }

    /// Whether what the index knows outlives this process.
    pub(crate) fn lasts(&self) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).lasts()
    }

    /// Hands everything to the operating system.
    pub(crate) fn flush(&self) {
        self.ask(|index| index.flush());
    }

    /// The index said something that is not so.
    pub(crate) fn caught_lying(&self) {
        self.replace(&IndexError("it points at results that are not there".to_owned()));
    }

    /// Asks the index; one that fails is replaced, and the new one does not.
    fn ask<T>(&self, question: impl Fn(&dyn Index) -> Result<T, IndexError>) -> T {
        loop {
            let index = Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner));
            match question(index.as_ref()) {
                Ok(answer) => return answer,
                Err(error) => self.replace(&error),
            }
        }
    }

    fn replace(&self, error: &IndexError) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.condemn();
        *index = Arc::new(MemoryIndex::default());
        drop(index);
        self.units_seen.store(false, Ordering::Release);
        self.files_seen.store(false, Ordering::Release);
        self.note(format!("{error}; this run goes on without it, and the next one builds it again"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::damaged::Damaged;
    use super::super::disk::Disk;
    use super::*;

    /// An index that has had enough after some questions.
    #[derive(Debug)]
    struct Tired {
        memory: MemoryIndex,
        patience: std::sync::atomic::AtomicI32,
        condemned: AtomicBool,
    }

    impl Tired {
        fn work(&self) -> Result<(), IndexError> {
            let left = self.patience.fetch_sub(1, Ordering::SeqCst);
            if left > 0 { Ok(()) } else { Err(IndexError("tired".to_owned())) }
        }
    }

    impl Index for Tired {
        fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError> {
            self.work().and_then(|()| self.memory.units(keys))
        }
        fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
            self.work().and_then(|()| self.memory.add_units(group, keys))
        }
        fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError> {
            self.work().and_then(|()| self.memory.file(stat))
        }
        fn add_files(&self, group: Option<&Digest>, files: &[(Digest, Digest)]) -> Result<(), IndexError> {
            self.work().and_then(|()| self.memory.add_files(group, files))
        }
        fn has_group(&self, group: &Digest) -> Result<bool, IndexError> {
            self.memory.has_group(group)
        }
        fn flush(&self) -> Result<(), IndexError> {
            self.work()
        }
        fn lasts(&self) -> bool {
            true
        }
        fn condemn(&self) {
            self.condemned.store(true, Ordering::SeqCst);
        }
    }

    fn groups(cache: &Path, name: &str) -> Groups {
        Groups::new(cache.join(name), Disk::default(), Damaged::new(cache, Disk::default()))
    }

    #[test]
    fn an_index_that_fails_at_any_time_is_replaced_and_nothing_is_forgotten() {
        for patience in 0..10 {
            let cache = tempfile::tempdir().unwrap();
            let condemned = AtomicBool::new(false);
            let tired = Arc::new(Tired { memory: MemoryIndex::default(), patience: patience.into(), condemned });
            let index: Arc<dyn Index> = tired.clone();
            let lookup = Lookup::new(index, groups(cache.path(), "units"), groups(cache.path(), "files"));
            let key = |number: u8| Digest::of(&[number]);
            for number in 0..4 {
                let group = lookup.units.put(vec![(key(number), vec![number])]).unwrap();
                lookup.add_units(&group, &[key(number)]);
            }
            let file = (key(7), key(8));
            lookup.files.put(vec![(file.0, file.1.as_bytes().to_vec())]).unwrap();
            let keys: Vec<Digest> = (0..5).map(key).collect();
            let places = lookup.unit_places(&keys);
            assert!(places[..4].iter().all(Option::is_some), "{patience}: {places:?}");
            assert_eq!(places[4], None);
            assert_eq!(lookup.file(&file.0), Some(file.1), "{patience}");
            let failed = patience < 7;
            assert_eq!(tired.condemned.load(Ordering::SeqCst), failed, "{patience}");
            let note = "the index is unusable: tired; this run goes on without it, and the next one builds it again";
            assert_eq!(lookup.take_notes(), vec![note; usize::from(failed)]);
        }
    }
}
