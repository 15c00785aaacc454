//! The index in sled 0.34: the only file that names it.
//!
//! sled is treated as what may break at any time (its author says as much): our own lock is held
//! before its folder is touched, `*.generating` files that a kill left behind are removed first
//! since they make every later open fail, opening happens in a thread of its own that may panic or
//! hang, values stay under 1 KB, and any failure sets the folder aside and starts an empty one. One
//! process at a time has it open; the others use an index in memory.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::damaged::Damaged;
use super::index::{Index, IndexError, Place};
use super::lock::{LockFile, Taken};
use crate::digest::Digest;

/// sled takes about ten times this; 32 MB keep a run's memory bounded.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's lock outlives a closed database for a moment (its threads end late): opening is tried for
/// this long.
const OPEN_TRIES: u32 = 40;
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// A damaged one may keep sled busy for ever.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// The mark of an index that was found damaged while it was open.
const CONDEMNED: &str = "condemned";
/// The key of a group that has been seen: 33 bytes, so that it is no unit's.
const GROUP_PREFIX: u8 = b'g';

/// Trees of sled: few, since each costs disk for ever.
#[derive(Debug)]
pub(crate) struct SledIndex {
    folder: PathBuf,
    db: sled::Db,
    units: sled::Tree,
    files: sled::Tree,
    /// Held until the trees are closed.
    _lock: LockFile,
}

/// What came of opening it.
#[derive(Debug)]
pub(crate) enum Opening {
    /// It is open. `fresh` when it was made just now, `aside` where a damaged one is that it
    /// replaces.
    Open {
        /// The index.
        index: SledIndex,
        /// It knows nothing yet.
        fresh: bool,
        /// Where the one before is, if that was damaged.
        aside: Option<PathBuf>,
    },
    /// Another process has it.
    Taken,
    /// Not even an empty one can be made.
    Unusable {
        /// Why.
        error: IndexError,
        /// Where the one before is, if that was damaged and could be moved.
        aside: Option<PathBuf>,
    },
}

impl SledIndex {
    /// Opens the index in `folder`. A damaged one is set aside.
    pub(crate) fn open(folder: &Path, damaged: &Damaged) -> Opening {
        let path = folder.with_extension("lock");
        let lock = match LockFile::take(&path) {
            Ok(Taken::Held(lock)) => lock,
            Ok(Taken::HeldByOther(_)) => return Opening::Taken,
            Err(error) => {
                let error = IndexError(format!("{} cannot be locked: {error}", path.display()));
                return Opening::Unusable { error, aside: None };
            }
        };
        let mut aside = None;
        match Self::open_locked(folder, damaged, &mut aside) {
            Ok((db, units, files)) => {
                let fresh = !db.was_recovered() || aside.is_some();
                let index = Self {
                    folder: folder.to_path_buf(),
                    db,
                    units,
                    files,
                    _lock: lock,
                };
                Opening::Open {
                    index,
                    fresh,
                    aside,
                }
            }
            Err(error) => Opening::Unusable { error, aside },
        }
    }

    fn open_locked(
        folder: &Path,
        damaged: &Damaged,
        aside: &mut Option<PathBuf>,
    ) -> Result<Trees, IndexError> {
        if folder.join(CONDEMNED).exists() {
            *aside = set_aside(
                folder,
                damaged,
                &IndexError("it was found damaged".to_owned()),
            )?;
        }
        remove_generating(folder);
        match try_open(folder) {
            Ok(trees) => Ok(trees),
            Err(error) => {
                *aside = set_aside(folder, damaged, &error)?.or(aside.take());
                try_open(folder)
            }
        }
    }
}

type Trees = (sled::Db, sled::Tree, sled::Tree);

/// In a thread, since a damaged one may panic or never come back; such a thread is left to itself.
fn try_open(folder: &Path) -> Result<Trees, IndexError> {
    let (done, opened) = mpsc::channel();
    let path = folder.to_path_buf();
    let opener = move || {
        let opened = catch_unwind(AssertUnwindSafe(|| open_patiently(&path)));
        let _ = done.send(
            opened.unwrap_or_else(|_| Err(IndexError("sled panicked while opening it".to_owned()))),
        );
    };
    let spawned = std::thread::Builder::new()
        .name("index".to_owned())
        .spawn(opener);
    spawned.map_err(|error| IndexError(error.to_string()))?;
    opened.recv_timeout(OPEN_TIMEOUT).unwrap_or_else(|_| {
        Err(IndexError(
            "sled does not come back from opening it".to_owned(),
        ))
    })
}

fn open_patiently(folder: &Path) -> Result<Trees, IndexError> {
    let mut last = IndexError(String::new());
    for _ in 0..OPEN_TRIES {
        let db = match sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            .open()
        {
            Ok(db) => db,
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                last = IndexError(error.to_string());
                std::thread::sleep(OPEN_PAUSE);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (units, files) = (db.open_tree("units")?, db.open_tree("files")?);
        return Ok((db, units, files));
    }
    Err(last)
}

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        IndexError(error.to_string())
    }
}

/// A kill while sled opens leaves `snap.X.generating`, which it later takes for a snapshot.
fn remove_generating(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "generating")
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn set_aside(
    folder: &Path,
    damaged: &Damaged,
    why: &IndexError,
) -> Result<Option<PathBuf>, IndexError> {
    tracing::warn!(%why, "the index is set aside");
    damaged
        .set_aside(folder)
        .map_err(|error| IndexError(format!("{why}; setting it aside failed: {error}")))
}

fn digest(value: &[u8]) -> Result<Digest, IndexError> {
    let bytes: [u8; 32] = value
        .try_into()
        .map_err(|_| IndexError("a digest of the wrong length".to_owned()))?;
    Ok(Digest::from_bytes(bytes))
}

fn group_key(group: &Digest) -> Vec<u8> {
    [&[GROUP_PREFIX], group.as_bytes().as_slice()].concat()
}

/// sled may panic on damage that it meets while it works.
fn guarded<T>(ask: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(ask))
        .unwrap_or_else(|_| Err(IndexError("sled panicked".to_owned())))
}

impl Index for SledIndex {
    fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&place| keys.get(place));
        let mut places = vec![None; keys.len()];
        guarded(|| {
            for at in order {
                let (Some(key), Some(place)) = (keys.get(at), places.get_mut(at)) else {
                    continue;
                };
                let Some(value) = self.units.get(key.as_bytes())? else {
                    continue;
                };
                let Some((group, slot)) = value.split_at_checked(32) else {
                    return Err(IndexError("a place of the wrong length".to_owned()));
                };
                let slot = slot
                    .try_into()
                    .map_err(|_| IndexError("a place of the wrong length".to_owned()))?;
                *place = Some(Place {
                    group: digest(group)?,
                    slot: u32::from_be_bytes(slot),
                });
            }
            Ok(())
        })?;
        Ok(places)
    }

    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
        let mut entries: Vec<(&Digest, u32)> = keys.iter().zip(0..).collect();
        entries.sort_unstable();
        guarded(|| {
            // One by one: a batch of ten thousand takes 3 KB of memory for each, for as long as
            // sled is open.
            for (key, slot) in entries {
                let value = [group.as_bytes().as_slice(), &slot.to_be_bytes()].concat();
                self.units.insert(key.as_bytes(), value)?;
            }
            self.units.insert(group_key(group), &[])?;
            Ok(())
        })
    }

    fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError> {
        guarded(|| {
            self.files
                .get(stat.as_bytes())?
                .map(|value| digest(&value))
                .transpose()
        })
    }

    fn add_files(
        &self,
        group: Option<&Digest>,
        files: &[(Digest, Digest)],
    ) -> Result<(), IndexError> {
        guarded(|| {
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
        guarded(|| Ok(self.units.contains_key(group_key(group))?))
    }

    fn flush(&self) -> Result<(), IndexError> {
        guarded(|| {
            self.db.flush()?;
            Ok(())
        })
    }

    fn lasts(&self) -> bool {
        true
    }

    fn condemn(&self) {
        if let Err(error) = fs::write(
            self.folder.join(CONDEMNED),
            "found damaged while it was open\n",
        ) {
            tracing::warn!(%error, "a damaged index could not be marked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::*;

    fn open(cache: &Path) -> (SledIndex, bool, Option<PathBuf>) {
        match SledIndex::open(&cache.join("index"), &Damaged::new(cache, Disk::default())) {
            Opening::Open {
                index,
                fresh,
                aside,
            } => (index, fresh, aside),
            Opening::Taken => panic!("nobody else has it"),
            Opening::Unusable { error, .. } => panic!("{error}"),
        }
    }

    fn filled() -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let (index, fresh, aside) = open(cache.path());
        assert!(fresh && aside.is_none());
        super::super::index::contract(&index);
        drop(index);
        let (_, fresh, aside) = open(cache.path());
        assert!(!fresh && aside.is_none());
        cache
    }

    #[test]
    fn keeps_the_contract() {
        filled();
    }

    #[test]
    fn only_one_has_it() {
        let cache = tempfile::tempdir().unwrap();
        let damaged = Damaged::new(cache.path(), Disk::default());
        let first = open(cache.path());
        assert!(matches!(
            SledIndex::open(&cache.path().join("index"), &damaged),
            Opening::Taken
        ));
        drop(first);
        open(cache.path());
    }

    #[test]
    fn can_be_opened_a_hundred_times_in_a_row() {
        let cache = tempfile::tempdir().unwrap();
        for round in 0..100 {
            let (_, fresh, aside) = open(cache.path());
            assert_eq!((fresh, aside), (round == 0, None), "{round}");
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
            let (_, fresh, aside) = open(cache.path());
            assert_eq!((fresh, aside), (false, None), "{len}");
        }
    }

    #[test]
    fn a_damaged_one_is_set_aside_and_an_empty_one_made() {
        for (file, bytes) in [
            ("conf", b"not a configuration".as_slice()),
            ("conf", &[0; 62]),
            ("condemned", b""),
        ] {
            let cache = filled();
            fs::write(cache.path().join("index").join(file), bytes).unwrap();
            let (index, fresh, aside) = open(cache.path());
            assert_eq!(
                (fresh, aside),
                (true, Some(cache.path().join("damaged/index"))),
                "{file}"
            );
            assert!(!index.has_group(&Digest::of(b"group")).unwrap());
        }
    }
}
