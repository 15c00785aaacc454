//! The index as the rest of the cache sees it: it never fails, and wrong answers are temporary.
//!
//! It is opened on first use, since opening sled takes longer than many a run that finds nothing to
//! do. What it lacks it reads from the groups: those of other processes, and those whose entries
//! were in sled's memory when a process was killed. An index that fails or gives a wrong location
//! is marked corrupt, and one in memory replaces it until the end of the run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::corrupt::CorruptFolder;
use super::disk::{Disk, DiskError};
use super::groups::Groups;
use super::index::{Index, IndexError, UnitLocation};
use super::memory_index::MemoryIndex;
use super::sled_index::{Opening, SledIndex};
use crate::dataset::{Chunk, Item};
use crate::digest::Digest;

/// An index and the groups it is filled from.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// `None` until its first use.
    index: RwLock<Option<Arc<dyn Index>>>,
    sled: Option<SledLocation>,
    pub(crate) units: Groups,
    pub(crate) files: Groups,
    /// Whether the index has been compared with the groups of units since it was opened.
    units_seen: AtomicBool,
    files_seen: AtomicBool,
    /// Where a corrupt index was moved that was replaced when it was opened.
    corrupt_index: Mutex<Option<PathBuf>>,
    notes: Mutex<Vec<String>>,
}

/// Where sled's index is, and where a corrupt one goes.
#[derive(Debug)]
pub(crate) struct SledLocation {
    pub(crate) folder: PathBuf,
    pub(crate) corrupt: CorruptFolder,
    pub(crate) disk: Disk,
}

/// Why an index could not be filled from the groups.
enum FillError {
    Index(IndexError),
    /// The groups cannot be read.
    Disk(DiskError),
}

impl From<IndexError> for FillError {
    fn from(error: IndexError) -> Self {
        FillError::Index(error)
    }
}

impl From<DiskError> for FillError {
    fn from(error: DiskError) -> Self {
        FillError::Disk(error)
    }
}

impl Lookup {
    /// The index is in sled, or in memory where `sled` is `None`.
    pub(crate) fn new(sled: Option<SledLocation>, units: Groups, files: Groups) -> Self {
        Self {
            index: RwLock::new(None),
            sled,
            units,
            files,
            units_seen: AtomicBool::new(false),
            files_seen: AtomicBool::new(false),
            corrupt_index: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// The index, opened if it is not yet.
    fn index(&self) -> Arc<dyn Index> {
        if let Some(index) = &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            return Arc::clone(index);
        }
        let mut slot = self.index.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have opened it between the two locks.
        Arc::clone(slot.get_or_insert_with(|| self.open()))
    }

    fn open(&self) -> Arc<dyn Index> {
        let Some(SledLocation {
            folder,
            corrupt,
            disk,
        }) = &self.sled
        else {
            return Arc::new(MemoryIndex::default());
        };
        match SledIndex::open(folder, corrupt, disk) {
            Opening::Open {
                index,
                is_new,
                moved_to,
            } => {
                *self.lock_corrupt_index() = moved_to;
                let filled = if is_new { self.fill(&index) } else { Ok(()) };
                match filled {
                    Err(FillError::Index(error)) => return self.replacement_for(&index, &error),
                    // Whoever needs the groups reads them again, and reports the error.
                    Err(FillError::Disk(error)) => {
                        tracing::warn!(%error, "the new index is not complete yet");
                    }
                    Ok(()) => {}
                }
                Arc::new(index)
            }
            Opening::InUse => Arc::new(MemoryIndex::default()),
            Opening::Unusable { error, moved_to } => {
                *self.lock_corrupt_index() = moved_to;
                self.note(format!(
                    "{error}; using an index in memory until that is fixed{}",
                    self.corrupt_index_note()
                ));
                Arc::new(MemoryIndex::default())
            }
        }
    }

    /// Fills a new index from the groups, with a note unless the cache is new too.
    fn fill(&self, index: &dyn Index) -> Result<(), FillError> {
        let count = self.add_unseen_units(index)? + self.add_unseen_files(index)?;
        self.units_seen.store(true, Ordering::Release);
        self.files_seen.store(true, Ordering::Release);
        let corrupt_index_note = self.corrupt_index_note();
        if count == 0 && corrupt_index_note.is_empty() {
            return Ok(());
        }
        let reason = if corrupt_index_note.is_empty() {
            "missing"
        } else {
            "corrupt"
        };
        let s = if count == 1 { "" } else { "s" };
        self.note(format!(
            "the index was {reason}: rebuilt from {count} result{s} in the cache\
             {corrupt_index_note}"
        ));
        Ok(())
    }

    fn lock_corrupt_index(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.corrupt_index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of a note: where the index is that was corrupt when it was opened.
    fn corrupt_index_note(&self) -> String {
        match &*self.lock_corrupt_index() {
            Some(path) => format!("; the old one is in {}", path.display()),
            None => String::new(),
        }
    }

    /// Opens the index if it is not open yet. That takes long where it has to be rebuilt.
    pub(crate) fn open_now(&self) {
        self.index();
    }

    /// Where a corrupt index was moved that this one replaced.
    pub(crate) fn corrupt_index(&self) -> Option<PathBuf> {
        self.open_now();
        self.lock_corrupt_index().clone()
    }

    /// Warnings about the index for the user, since the last call.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, text: String) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }

    /// Adds the groups of units that the index has not seen.
    ///
    /// # Errors
    /// [`DiskError`] when they cannot be read.
    pub(crate) fn refresh_units(&self) -> Result<(), DiskError> {
        self.refresh(&self.units_seen, |index| self.add_unseen_units(index))
    }

    /// The same for the digests of user's files. What cannot be read of them is as good as missing:
    /// the files are read again.
    fn refresh_files(&self) {
        let refreshed = self.refresh(&self.files_seen, |index| self.add_unseen_files(index));
        if let Err(error) = refreshed {
            tracing::warn!(%error, "some files may be read again");
            self.files_seen.store(true, Ordering::Release);
        }
    }

    /// The flag is set first: if the index fails meanwhile and is replaced,
    /// [`Self::replacement_for`] clears it again, and a flag set afterwards would hide that.
    fn refresh(
        &self,
        is_seen: &AtomicBool,
        add_unseen: impl Fn(&dyn Index) -> Result<usize, FillError>,
    ) -> Result<(), DiskError> {
        is_seen.store(true, Ordering::Release);
        loop {
            match add_unseen(self.index().as_ref()) {
                Ok(_) => return Ok(()),
                Err(FillError::Index(error)) => self.replace(&error),
                Err(FillError::Disk(error)) => {
                    is_seen.store(false, Ordering::Release);
                    return Err(error);
                }
            }
        }
    }

    /// Returns the number of units in the added groups.
    fn add_unseen_units(&self, index: &dyn Index) -> Result<usize, FillError> {
        add_unseen_groups(index, &self.units, |group, chunk| {
            let keys: Vec<Digest> = chunk.items.iter().map(|item| item.id).collect();
            index.add_units(group, &keys)
        })
    }

    fn add_unseen_files(&self, index: &dyn Index) -> Result<usize, FillError> {
        add_unseen_groups(index, &self.files, |group, chunk| {
            let files: Vec<(Digest, Digest)> = chunk.items.iter().filter_map(file_entry).collect();
            index.add_files(Some(group), &files)
        })
    }

    /// The locations of units, in the order of `keys`.
    ///
    /// # Errors
    /// [`DiskError`] when a group that may have them cannot be read.
    pub(crate) fn unit_locations(
        &self,
        keys: &[Digest],
    ) -> Result<Vec<Option<UnitLocation>>, DiskError> {
        loop {
            if !self.units_seen.load(Ordering::Acquire) {
                self.refresh_units()?;
            }
            let locations = self.query(|index| index.unit_locations(keys));
            // If it is false now, the index was replaced meanwhile, and the answer may come from
            // the new one before it was filled: ask again.
            if self.units_seen.load(Ordering::Acquire) {
                return Ok(locations);
            }
        }
    }

    pub(crate) fn add_units(&self, group: &Digest, keys: &[Digest]) {
        self.query(|index| index.add_units(group, keys));
    }

    /// The digest of a user's file, by the digest of its `stat`.
    pub(crate) fn file(&self, stat: &Digest) -> Option<Digest> {
        loop {
            if !self.files_seen.load(Ordering::Acquire) {
                self.refresh_files();
            }
            let digest = self.query(|index| index.file(stat));
            // As in `unit_locations`.
            if self.files_seen.load(Ordering::Acquire) {
                return digest;
            }
        }
    }

    pub(crate) fn add_files(&self, group: Option<&Digest>, files: &[(Digest, Digest)]) {
        self.query(|index| index.add_files(group, files));
    }

    /// Whether the content of the index outlives this process.
    pub(crate) fn is_persistent(&self) -> bool {
        self.index().is_persistent()
    }

    /// Hands everything to the operating system. An index that was never opened is not opened for
    /// this.
    pub(crate) fn flush(&self) {
        let is_open = self
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if is_open {
            self.query(|index| index.flush());
        }
    }

    /// Replaces an index that gave a wrong location.
    pub(crate) fn invalidate(&self) {
        self.replace(&IndexError::Corrupt(
            "it points to results that do not exist".to_owned(),
        ));
    }

    /// Queries the index. One that fails is replaced by one in memory, which does not fail.
    fn query<T>(&self, question: impl Fn(&dyn Index) -> Result<T, IndexError>) -> T {
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
        *slot = Some(self.replacement_for(index.as_ref(), error));
    }

    /// Gives an empty index, which has seen no groups, for one that fails. That one is marked as
    /// corrupt, unless it could only not be read.
    fn replacement_for(&self, index: &dyn Index, error: &IndexError) -> Arc<dyn Index> {
        let is_corrupt = matches!(error, IndexError::Corrupt(_));
        if is_corrupt {
            index.mark_corrupt();
        }
        self.units_seen.store(false, Ordering::Release);
        self.files_seen.store(false, Ordering::Release);
        let corrupt_index_note = self.corrupt_index_note();
        let next = if is_corrupt {
            ", and the next one rebuilds it"
        } else {
            ""
        };
        self.note(format!(
            "{error}; this run uses an index in memory{next}{corrupt_index_note}"
        ));
        Arc::new(MemoryIndex::default())
    }
}

/// The digests of a file's `stat` and content; `None` if the payload is not a digest.
fn file_entry(item: &Item) -> Option<(Digest, Digest)> {
    let digest = item.payload.as_slice().try_into().ok()?;
    Some((item.id, Digest::from_bytes(digest)))
}

/// Adds the groups that an index has not seen. Returns the number of items in them.
fn add_unseen_groups(
    index: &dyn Index,
    groups: &Groups,
    add: impl Fn(&Digest, &Chunk) -> Result<(), IndexError>,
) -> Result<usize, FillError> {
    let mut count = 0;
    for group in groups.list()? {
        if index.has_group(&group)? {
            continue;
        }
        if let Some(chunk) = groups.get(&group)? {
            add(&group, &chunk)?;
            count += chunk.items.len();
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// An index that fails after some operations.
    #[derive(Debug)]
    struct FailingIndex {
        memory: MemoryIndex,
        operations_left: std::sync::atomic::AtomicI32,
        marked_corrupt: AtomicBool,
    }

    impl FailingIndex {
        fn count_down(&self) -> Result<(), IndexError> {
            let left = self.operations_left.fetch_sub(1, Ordering::SeqCst);
            if left > 0 {
                Ok(())
            } else {
                Err(IndexError::Corrupt("it failed".to_owned()))
            }
        }
    }

    impl Index for FailingIndex {
        fn unit_locations(&self, keys: &[Digest]) -> Result<Vec<Option<UnitLocation>>, IndexError> {
            self.count_down()?;
            self.memory.unit_locations(keys)
        }
        fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
            self.count_down()?;
            self.memory.add_units(group, keys)
        }
        fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError> {
            self.count_down()?;
            self.memory.file(stat)
        }
        fn add_files(
            &self,
            group: Option<&Digest>,
            files: &[(Digest, Digest)],
        ) -> Result<(), IndexError> {
            self.count_down()?;
            self.memory.add_files(group, files)
        }
        fn has_group(&self, group: &Digest) -> Result<bool, IndexError> {
            self.memory.has_group(group)
        }
        fn flush(&self) -> Result<(), IndexError> {
            self.count_down()
        }
        fn is_persistent(&self) -> bool {
            true
        }
        fn mark_corrupt(&self) {
            self.marked_corrupt.store(true, Ordering::SeqCst);
        }
    }

    fn groups(cache: &Path, name: &str) -> Groups {
        let corrupt = CorruptFolder::new(cache, Disk::default());
        Groups::new(cache.join(name), Disk::default(), corrupt)
    }

    #[test]
    fn an_index_that_fails_at_any_time_is_replaced_and_loses_nothing() {
        for operations in 0..10 {
            let cache = tempfile::tempdir().unwrap();
            let failing = Arc::new(FailingIndex {
                memory: MemoryIndex::default(),
                operations_left: operations.into(),
                marked_corrupt: AtomicBool::new(false),
            });
            let index: Arc<dyn Index> = failing.clone();
            let (units, files) = (groups(cache.path(), "units"), groups(cache.path(), "files"));
            let lookup = Lookup::new(None, units, files);
            *lookup.index.write().unwrap() = Some(index);
            *lookup.lock_corrupt_index() = Some("corrupt/index".into());
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
            let locations = lookup.unit_locations(&keys).unwrap();
            assert!(
                locations[..4].iter().all(Option::is_some),
                "{operations}: {locations:?}"
            );
            assert_eq!(locations[4], None);
            assert_eq!(lookup.file(&file.0), Some(file.1), "{operations}");
            let failed = operations < 7;
            assert_eq!(
                failing.marked_corrupt.load(Ordering::SeqCst),
                failed,
                "{operations}"
            );
            let note = "the index is unusable: it failed; this run uses an index in memory, and \
                        the next one rebuilds it; the old one is in corrupt/index";
            assert_eq!(lookup.take_notes(), vec![note; usize::from(failed)]);
        }
    }
}
