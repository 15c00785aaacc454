//! The index as the rest of the cache sees it: it never fails and never lies for long.
//!
//! It is opened when it is first asked, since opening sled takes longer than many a run that finds
//! nothing to do. What it lacks it reads from the groups: those of other processes, and those whose
//! entries a kill took from sled's memory. An index that fails or says what is not so is condemned,
//! and one in memory takes its place until the end of the run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::damaged::Damaged;
use super::groups::Groups;
use super::index::{Index, IndexError, Place};
use super::memory_index::MemoryIndex;
use super::sled_index::{Opening, SledIndex};
use crate::dataset::{Chunk, Item};
use crate::digest::Digest;

/// An index and the groups it is filled from.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Nothing until it is first asked.
    index: RwLock<Option<Arc<dyn Index>>>,
    sled: Option<SledPlace>,
    pub(crate) units: Groups,
    pub(crate) files: Groups,
    units_seen: AtomicBool,
    files_seen: AtomicBool,
    /// Where a damaged index is that was replaced when it was opened.
    aside: Mutex<Option<PathBuf>>,
    notes: Mutex<Vec<String>>,
}

/// Where sled's index lies, and what sets a damaged one aside.
#[derive(Debug)]
pub(crate) struct SledPlace {
    pub(crate) folder: PathBuf,
    pub(crate) damaged: Damaged,
}

impl Lookup {
    /// One whose index is in sled; without a place for that, in memory.
    pub(crate) fn new(sled: Option<SledPlace>, units: Groups, files: Groups) -> Self {
        Self {
            index: RwLock::new(None),
            sled,
            units,
            files,
            units_seen: AtomicBool::new(false),
            files_seen: AtomicBool::new(false),
            aside: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// The index, opened if it is not yet.
    fn index(&self) -> Arc<dyn Index> {
        if let Some(index) = &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            return Arc::clone(index);
        }
        let mut slot = self.index.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slot.get_or_insert_with(|| self.open()))
    }

    fn open(&self) -> Arc<dyn Index> {
        let Some(SledPlace { folder, damaged }) = &self.sled else {
            return Arc::new(MemoryIndex::default());
        };
        match SledIndex::open(folder, damaged) {
            Opening::Open {
                index,
                fresh,
                aside,
            } => {
                self.remember_aside(aside);
                match fresh.then(|| self.fill(&index)) {
                    Some(Err(error)) => self.instead_of(&index, &error),
                    Some(Ok(())) | None => Arc::new(index),
                }
            }
            Opening::Taken => Arc::new(MemoryIndex::default()),
            Opening::Unusable { error, aside } => {
                self.remember_aside(aside);
                self.note(format!(
                    "{error}; one in memory takes its place until that is mended{}",
                    self.old_one()
                ));
                Arc::new(MemoryIndex::default())
            }
        }
    }

    /// Fills an index that is new, and says so if there was anything to fill it with.
    fn fill(&self, index: &dyn Index) -> Result<(), IndexError> {
        let count = self.add_all_units(index)? + self.add_all_files(index)?;
        self.units_seen.store(true, Ordering::Release);
        self.files_seen.store(true, Ordering::Release);
        let old_one = self.old_one();
        if count > 0 || !old_one.is_empty() {
            let was = if old_one.is_empty() {
                "missing"
            } else {
                "damaged"
            };
            let s = if count == 1 { "" } else { "s" };
            self.note(format!(
                "the index was {was}: it was built again from the {count} result{s} in the cache{old_one}"
            ));
        }
        Ok(())
    }

    fn remember_aside(&self, aside: Option<PathBuf>) {
        *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = aside;
    }

    /// Where the index is that was damaged when it was opened, to be said at the end of a note.
    fn old_one(&self) -> String {
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.as_ref().map_or(String::new(), |aside| {
            format!("; the old one is in {}", aside.display())
        })
    }

    /// Opens the index if it is not yet. That may take long where it has to be built again.
    pub(crate) fn ready(&self) {
        self.index();
    }

    /// Where a damaged index is that this one replaced.
    pub(crate) fn aside(&self) -> Option<PathBuf> {
        self.index();
        self.aside
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What a user should hear about the index since it was last asked.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, text: String) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }

    /// Takes in the groups of units that the index has not seen.
    pub(crate) fn refresh_units(&self) {
        self.units_seen.store(true, Ordering::Release);
        self.ask(|index| self.add_all_units(index));
    }

    /// The same for the digests of user's files.
    fn refresh_files(&self) {
        self.files_seen.store(true, Ordering::Release);
        self.ask(|index| self.add_all_files(index));
    }

    /// Says how many units the groups had that the index had not seen.
    fn add_all_units(&self, index: &dyn Index) -> Result<usize, IndexError> {
        add_all(index, &self.units, |group, chunk| {
            let keys: Vec<Digest> = chunk.items.iter().map(|item| item.id).collect();
            index.add_units(group, &keys)
        })
    }

    fn add_all_files(&self, index: &dyn Index) -> Result<usize, IndexError> {
        add_all(index, &self.files, |group, chunk| {
            let entry = |item: &Item| {
                Some((
                    item.id,
                    Digest::from_bytes(item.payload.as_slice().try_into().ok()?),
                ))
            };
            let files: Vec<(Digest, Digest)> = chunk.items.iter().filter_map(entry).collect();
            index.add_files(Some(group), &files)
        })
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
        self.index().lasts()
    }

    /// Hands everything to the operating system. Nothing to do for one that nobody asked.
    pub(crate) fn flush(&self) {
        if self
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
        {
            self.ask(|index| index.flush());
        }
    }

    /// The index said something that is not so.
    pub(crate) fn caught_lying(&self) {
        self.replace(&IndexError(
            "it points at results that are not there".to_owned(),
        ));
    }

    /// Asks the index; one that fails is replaced, and the new one does not.
    fn ask<T>(&self, question: impl Fn(&dyn Index) -> Result<T, IndexError>) -> T {
        loop {
            match question(self.index().as_ref()) {
                Ok(answer) => return answer,
                Err(error) => self.replace(&error),
            }
        }
    }

    fn replace(&self, error: &IndexError) {
        let mut slot = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let index = slot
            .take()
            .unwrap_or_else(|| Arc::new(MemoryIndex::default()));
        *slot = Some(self.instead_of(index.as_ref(), error));
    }

    /// What takes the place of an index that is no good.
    fn instead_of(&self, index: &dyn Index, error: &IndexError) -> Arc<dyn Index> {
        index.condemn();
        self.units_seen.store(false, Ordering::Release);
        self.files_seen.store(false, Ordering::Release);
        let old_one = self.old_one();
        self.note(format!(
            "{error}; this run goes on without it, and the next one builds it again{old_one}"
        ));
        Arc::new(MemoryIndex::default())
    }
}

/// Adds the groups that an index has not seen; says how many items they had.
fn add_all(
    index: &dyn Index,
    groups: &Groups,
    add: impl Fn(&Digest, &Chunk) -> Result<(), IndexError>,
) -> Result<usize, IndexError> {
    let mut count = 0;
    for group in groups.list() {
        if index.has_group(&group)? {
            continue;
        }
        if let Some(chunk) = groups.get(&group) {
            add(&group, &chunk)?;
            count += chunk.items.len();
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
            if left > 0 {
                Ok(())
            } else {
                Err(IndexError("tired".to_owned()))
            }
        }
    }

    impl Index for Tired {
        fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError> {
            self.work().and_then(|()| self.memory.units(keys))
        }
        fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
            self.work()
                .and_then(|()| self.memory.add_units(group, keys))
        }
        fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError> {
            self.work().and_then(|()| self.memory.file(stat))
        }
        fn add_files(
            &self,
            group: Option<&Digest>,
            files: &[(Digest, Digest)],
        ) -> Result<(), IndexError> {
            self.work()
                .and_then(|()| self.memory.add_files(group, files))
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
        Groups::new(
            cache.join(name),
            Disk::default(),
            Damaged::new(cache, Disk::default()),
        )
    }

    #[test]
    fn an_index_that_fails_at_any_time_is_replaced_and_nothing_is_forgotten() {
        for patience in 0..10 {
            let cache = tempfile::tempdir().unwrap();
            let condemned = AtomicBool::new(false);
            let tired = Arc::new(Tired {
                memory: MemoryIndex::default(),
                patience: patience.into(),
                condemned,
            });
            let index: Arc<dyn Index> = tired.clone();
            let lookup = Lookup::new(
                None,
                groups(cache.path(), "units"),
                groups(cache.path(), "files"),
            );
            *lookup.index.write().unwrap() = Some(index);
            lookup.remember_aside(Some("damaged/index".into()));
            let key = |number: u8| Digest::of(&[number]);
            for number in 0..4 {
                let group = lookup.units.put(vec![(key(number), vec![number])]).unwrap();
                lookup.add_units(&group, &[key(number)]);
            }
            let file = (key(7), key(8));
            lookup
                .files
                .put(vec![(file.0, file.1.as_bytes().to_vec())])
                .unwrap();
            let keys: Vec<Digest> = (0..5).map(key).collect();
            let places = lookup.unit_places(&keys);
            assert!(
                places[..4].iter().all(Option::is_some),
                "{patience}: {places:?}"
            );
            assert_eq!(places[4], None);
            assert_eq!(lookup.file(&file.0), Some(file.1), "{patience}");
            let failed = patience < 7;
            assert_eq!(tired.condemned.load(Ordering::SeqCst), failed, "{patience}");
            let note = "the index is unusable: tired; this run goes on without it, and the next one builds it again; \
                        the old one is in damaged/index";
            assert_eq!(lookup.take_notes(), vec![note; usize::from(failed)]);
        }
    }
}
