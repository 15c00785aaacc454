//! The index in sled 0.34. No other file names sled.
//!
//! sled is treated as something that may break at any time (its author says as much): a lock of our
//! own is held before its folder is touched; `*.generating` files that a kill left behind are
//! removed first, since they make every later open fail; opening happens in a thread of its own,
//! which may panic or hang; values stay under 1 KB; and any failure moves the folder to `corrupt/`
//! and starts an empty one. One process at a time has it open; the others use an index in memory.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::corrupt::CorruptFolder;
use super::disk::Disk;
use super::disk_read::may_pass;
use super::index::{Index, IndexError, UnitLocation};
use super::lock::{FileLock, FileLockAttempt};
use crate::digest::Digest;

/// sled takes about ten times this; 32 MB keep a run's memory bounded.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's own lock outlives a closed database for a moment, since its threads end late: opening is
/// tried for two seconds.
const OPEN_TRIES: u32 = 40;
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// A corrupt database may keep sled busy for ever.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// The file that marks an index as corrupt. The next process that opens it moves it away: sled has
/// it open here and would go on writing.
const CORRUPT_MARK: &str = "condemned";
/// The prefix of the key of a group that has been seen: with it the key has 33 bytes, so it cannot
/// be a unit's.
const GROUP_PREFIX: u8 = b'g';

/// Two trees only, since each takes disk space for ever. The groups are in `units`.
#[derive(Debug)]
pub(crate) struct SledIndex {
    folder: PathBuf,
    db: sled::Db,
    units: sled::Tree,
    files: sled::Tree,
    /// Declared last, so that it is released after the trees are closed.
    _lock: FileLock,
}

/// The result of opening it.
#[derive(Debug)]
pub(crate) enum Opening {
    Open {
        index: SledIndex,
        /// It was created just now and knows nothing yet.
        is_new: bool,
        /// Where the corrupt index was moved that it replaces.
        moved_to: Option<PathBuf>,
    },
    /// Another process has it open.
    InUse,
    /// Not even an empty one can be created.
    Unusable {
        error: IndexError,
        /// Where the previous index was moved, if it was corrupt and could be moved.
        moved_to: Option<PathBuf>,
    },
}

type Trees = (sled::Db, sled::Tree, sled::Tree);

impl SledIndex {
    /// Opens the index in `folder`. A corrupt one is moved away and replaced.
    pub(crate) fn open(folder: &Path, corrupt: &CorruptFolder, disk: &Disk) -> Opening {
        let path = folder.with_extension("lock");
        let lock = match FileLock::try_acquire(&path) {
            Ok(FileLockAttempt::Held(lock)) => lock,
            Ok(FileLockAttempt::HeldByOther(_)) => return Opening::InUse,
            Err(error) => {
                let error =
                    IndexError::Corrupt(format!("{} cannot be locked: {error}", path.display()));
                let moved_to = None;
                return Opening::Unusable { error, moved_to };
            }
        };
        let mut moved_to = None;
        match Self::open_locked(folder, corrupt, disk, &mut moved_to) {
            Ok((db, units, files)) => {
                let is_new = !db.was_recovered() || moved_to.is_some();
                let index = Self {
                    folder: folder.to_path_buf(),
                    db,
                    units,
                    files,
                    _lock: lock,
                };
                Opening::Open {
                    index,
                    is_new,
                    moved_to,
                }
            }
            Err(error) => Opening::Unusable { error, moved_to },
        }
    }

    fn open_locked(
        folder: &Path,
        corrupt: &CorruptFolder,
        disk: &Disk,
        moved_to: &mut Option<PathBuf>,
    ) -> Result<Trees, IndexError> {
        if folder.join(CORRUPT_MARK).exists() {
            let why = IndexError::Corrupt("it was found corrupt".to_owned());
            *moved_to = move_away(folder, corrupt, &why)?;
        }
        remove_generating(folder);
        match try_open(folder, disk) {
            Err(error @ IndexError::Corrupt(_)) => {
                *moved_to = move_away(folder, corrupt, &error)?.or(moved_to.take());
                // Once more, on no folder at all: what fails now is not the content.
                try_open(folder, disk)
            }
            opened => opened,
        }
    }
}

/// Opens in a thread, since a corrupt database may make sled panic or hang. A thread that hangs is
/// abandoned.
fn try_open(folder: &Path, disk: &Disk) -> Result<Trees, IndexError> {
    let (sender, receiver) = mpsc::channel();
    let (path, disk) = (folder.to_path_buf(), disk.clone());
    let open = move || {
        let opened = catch_unwind(AssertUnwindSafe(|| open_with_retries(&path, &disk)))
            .unwrap_or_else(|_| {
                Err(IndexError::Corrupt(
                    "sled panicked while opening it".to_owned(),
                ))
            });
        // After the timeout there is no receiver.
        let _ = sender.send(opened);
    };
    std::thread::Builder::new()
        .name("index".to_owned())
        .spawn(open)
        .map_err(|error| IndexError::Unreadable(error.to_string()))?;
    receiver.recv_timeout(OPEN_TIMEOUT).unwrap_or_else(|_| {
        Err(IndexError::Corrupt(
            "sled did not finish opening it".to_owned(),
        ))
    })
}

fn open_with_retries(folder: &Path, disk: &Disk) -> Result<Trees, IndexError> {
    let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES);
    let mut last = IndexError::Corrupt(String::new());
    for _ in 0..OPEN_TRIES {
        let opened = disk.before_read(folder).map_err(sled::Error::Io);
        let db = match opened.and_then(|()| config.open()) {
            Ok(db) => db,
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                last = IndexError::Corrupt(error.to_string());
                std::thread::sleep(OPEN_PAUSE);
                continue;
            }
            Err(error) => match IndexError::from(error) {
                error @ IndexError::Unreadable(_) => {
                    last = error;
                    std::thread::sleep(OPEN_PAUSE);
                    continue;
                }
                error @ IndexError::Corrupt(_) => return Err(error),
            },
        };
        let (units, files) = (db.open_tree("units")?, db.open_tree("files")?);
        return Ok((db, units, files));
    }
    Err(last)
}

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        match &error {
            sled::Error::Io(source)
                if may_pass(source) || source.kind() == io::ErrorKind::PermissionDenied =>
            {
                IndexError::Unreadable(error.to_string())
            }
            _ => IndexError::Corrupt(error.to_string()),
        }
    }
}

/// A kill while sled opens leaves `snap.X.generating`, which it later takes for a snapshot.
fn remove_generating(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|name| name == "generating") {
            let _ = fs::remove_file(path);
        }
    }
}

fn move_away(
    folder: &Path,
    corrupt: &CorruptFolder,
    why: &IndexError,
) -> Result<Option<PathBuf>, IndexError> {
    tracing::warn!(%why, "the index is moved away");
    corrupt
        .move_in(folder)
        .map_err(|error| IndexError::Corrupt(format!("{why}; moving it away failed: {error}")))
}

fn decode_digest(value: &[u8]) -> Result<Digest, IndexError> {
    let bytes: [u8; 32] = value
        .try_into()
        .map_err(|_| IndexError::Corrupt("a digest of the wrong length".to_owned()))?;
    Ok(Digest::from_bytes(bytes))
}

/// The group's digest and the slot in 4 bytes, big-endian.
fn encode_location(group: &Digest, slot: u32) -> Vec<u8> {
    [group.as_bytes().as_slice(), &slot.to_be_bytes()].concat()
}

fn decode_location(value: &[u8]) -> Result<UnitLocation, IndexError> {
    let wrong_length = || IndexError::Corrupt("a location of the wrong length".to_owned());
    let (group, slot) = value.split_at_checked(32).ok_or_else(wrong_length)?;
    let slot = slot.try_into().map_err(|_| wrong_length())?;
    Ok(UnitLocation {
        group: decode_digest(group)?,
        slot: u32::from_be_bytes(slot),
    })
}

fn group_key(group: &Digest) -> Vec<u8> {
    [&[GROUP_PREFIX], group.as_bytes().as_slice()].concat()
}

/// sled may panic on corruption that it meets while it works.
fn catch_panic<T>(operation: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(operation))
        .unwrap_or_else(|_| Err(IndexError::Corrupt("sled panicked".to_owned())))
}

impl Index for SledIndex {
    fn unit_locations(&self, keys: &[Digest]) -> Result<Vec<Option<UnitLocation>>, IndexError> {
        // Neighbouring keys share pages: sorted, each page is read once.
        let mut sorted: Vec<(usize, &Digest)> = keys.iter().enumerate().collect();
        sorted.sort_unstable_by_key(|(_, key)| *key);
        let mut locations = vec![None; keys.len()];
        catch_panic(|| {
            for (position, key) in sorted {
                let Some(value) = self.units.get(key.as_bytes())? else {
                    continue;
                };
                if let Some(location) = locations.get_mut(position) {
                    *location = Some(decode_location(&value)?);
                }
            }
            Ok(())
        })?;
        Ok(locations)
    }

    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
        let mut entries: Vec<(&Digest, u32)> = keys.iter().zip(0..).collect();
        entries.sort_unstable();
        catch_panic(|| {
            // One by one: a batch of ten thousand takes 3 KB of memory for each, for as long as
            // sled is open.
            for (key, slot) in entries {
                self.units
                    .insert(key.as_bytes(), encode_location(group, slot))?;
            }
            self.units.insert(group_key(group), &[])?;
            Ok(())
        })
    }

    fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError> {
        catch_panic(|| {
            let value = self.files.get(stat.as_bytes())?;
            value.map(|value| decode_digest(&value)).transpose()
        })
    }

    fn add_files(
        &self,
        group: Option<&Digest>,
        files: &[(Digest, Digest)],
    ) -> Result<(), IndexError> {
        catch_panic(|| {
            for (stat, digest) in files {
                self.files.insert(stat.as_bytes(), digest.as_bytes())?;
            }
            if let Some(group) = group {
                self.units.insert(group_key(group), &[])?;
            }
            Ok(())
        })
    }

    fn has_group(&self, group: &Digest) -> Result<bool, IndexError> {
        catch_panic(|| Ok(self.units.contains_key(group_key(group))?))
    }

    fn flush(&self) -> Result<(), IndexError> {
        catch_panic(|| {
            self.db.flush()?;
            Ok(())
        })
    }

    fn is_persistent(&self) -> bool {
        true
    }

    fn mark_corrupt(&self) {
        let mark = self.folder.join(CORRUPT_MARK);
        if let Err(error) = fs::write(mark, "found corrupt while it was open\n") {
            tracing::warn!(%error, "a corrupt index could not be marked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(cache: &Path) -> (SledIndex, bool, Option<PathBuf>) {
        match SledIndex::open(
            &cache.join("index"),
            &CorruptFolder::new(cache, Disk::default()),
            &Disk::default(),
        ) {
            Opening::Open {
                index,
                is_new,
                moved_to,
            } => (index, is_new, moved_to),
            Opening::InUse => panic!("no other process has it open"),
            Opening::Unusable { error, .. } => panic!("{error}"),
        }
    }

    fn filled() -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let (index, is_new, moved_to) = open(cache.path());
        assert!(is_new && moved_to.is_none());
        super::super::index::check_contract(&index);
        drop(index);
        let (_, is_new, moved_to) = open(cache.path());
        assert!(!is_new && moved_to.is_none());
        cache
    }

    #[test]
    fn keeps_the_contract() {
        filled();
    }

    #[test]
    fn only_one_can_have_it_open() {
        let cache = tempfile::tempdir().unwrap();
        let corrupt = CorruptFolder::new(cache.path(), Disk::default());
        let first = open(cache.path());
        assert!(matches!(
            SledIndex::open(&cache.path().join("index"), &corrupt, &Disk::default()),
            Opening::InUse
        ));
        drop(first);
        open(cache.path());
    }

    #[test]
    fn can_be_opened_a_hundred_times_in_a_row() {
        let cache = tempfile::tempdir().unwrap();
        for round in 0..100 {
            let (_, is_new, moved_to) = open(cache.path());
            assert_eq!((is_new, moved_to), (round == 0, None), "{round}");
        }
    }

    #[test]
    fn survives_what_a_kill_while_opening_leaves() {
        for len in [0, 40, 524_288] {
            let cache = filled();
            fs::write(
                cache.path().join("index/snap.00000000000000FF.generating"),
                vec![0; len],
            )
            .unwrap();
            let (_, is_new, moved_to) = open(cache.path());
            assert_eq!((is_new, moved_to), (false, None), "{len}");
        }
    }

    #[test]
    fn a_corrupt_one_is_moved_away_and_an_empty_one_created() {
        for (file, bytes) in [
            ("conf", b"not a configuration".as_slice()),
            ("conf", &[0; 62]),
            ("condemned", b""),
        ] {
            let cache = filled();
            fs::write(cache.path().join("index").join(file), bytes).unwrap();
            let (index, is_new, moved_to) = open(cache.path());
            assert_eq!(
                (is_new, moved_to),
                (true, Some(cache.path().join("corrupt/index"))),
                "{file}"
            );
            assert!(!index.has_group(&Digest::of(b"group")).unwrap());
        }
    }
}
