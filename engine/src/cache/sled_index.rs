//! The index in sled 0.34: the only file that names it.
//!
//! sled is treated as what may break at any time (its author says as much): our own lock is held before its folder is
//! touched, `*.generating` files that a kill left behind are removed first since they make every later open fail, opening
//! happens under `catch_unwind`, values stay under 1 KB, and any failure sets the folder aside and starts an empty one.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::index::{Index, IndexError, Place};
use crate::digest::Digest;

/// sled takes about ten times this; 32 MB keep a run's memory bounded.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's lock outlives a closed database for a moment (its threads end late): opening is tried for this long.
const OPEN_TRIES: u32 = 20;

/// Trees of sled: few, since each costs disk for ever.
#[derive(Debug)]
pub(crate) struct SledIndex {
    db: sled::Db,
    units: sled::Tree,
    files: sled::Tree,
}

const COMPLETE: &[u8] = b"complete";

impl SledIndex {
    /// Opens the index of a cache whose lock is held. A damaged one is set aside; the second value then says so.
    ///
    /// # Errors
    /// When even an empty one cannot be made.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Option<String>), IndexError> {
        remove_generating(folder);
        match Self::try_open(folder) {
            Ok(index) => Ok((index, None)),
            Err(error) => {
                let aside =
                    set_aside(folder).map_err(|io| IndexError(format!("{error}; setting it aside failed: {io}")))?;
                let note = format!(
                    "the index was damaged and is being built again; the old one is kept in {}",
                    aside.display()
                );
                Ok((Self::try_open(folder)?, Some(note)))
            }
        }
    }

    fn try_open(folder: &Path) -> Result<Self, IndexError> {
        let mut last = IndexError(String::new());
        for _ in 0..OPEN_TRIES {
            let opened = catch_unwind(|| {
                let db = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).open()?;
                let (units, files) = (db.open_tree("units")?, db.open_tree("files")?);
                sled::Result::Ok(Self { db, units, files })
            });
            match opened {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
                    last = IndexError(error.to_string());
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(IndexError("sled panicked while opening it".to_owned())),
            }
        }
        Err(last)
    }
}

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        IndexError(error.to_string())
    }
}

/// A kill while sled opens leaves `snap.X.generating`, which it later takes for a snapshot.
fn remove_generating(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "generating") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn set_aside(folder: &Path) -> std::io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let aside = folder.with_file_name(format!("index.bad-{now}"));
    fs::rename(folder, &aside)?;
    Ok(aside)
}

fn digest(value: &[u8]) -> Result<Digest, IndexError> {
    let bytes: [u8; 32] = value.try_into().map_err(|_| IndexError("a digest of the wrong length".to_owned()))?;
    Ok(Digest::from_bytes(bytes))
}

impl Index for SledIndex {
    fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&place| keys.get(place));
        let mut places = vec![None; keys.len()];
        for at in order {
            let (Some(key), Some(place)) = (keys.get(at), places.get_mut(at)) else { continue };
            let Some(value) = self.units.get(key.as_bytes())? else { continue };
            let Some((group, slot)) = value.split_at_checked(32) else { continue };
            let slot = slot.try_into().map_err(|_| IndexError("a place of the wrong length".to_owned()))?;
            *place = Some(Place { group: digest(group)?, slot: u32::from_be_bytes(slot) });
        }
        Ok(places)
    }

    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (slot, key) in (0_u32..).zip(keys) {
            let mut value = group.as_bytes().to_vec();
            value.extend(slot.to_be_bytes());
            batch.insert(key.as_bytes(), value);
        }
        Ok(self.units.apply_batch(batch)?)
    }

    fn file(&self, stat: &[u8]) -> Result<Option<Digest>, IndexError> {
        self.files.get(stat)?.map(|value| digest(&value)).transpose()
    }

    fn add_file(&self, stat: &[u8], digest: &Digest) -> Result<(), IndexError> {
        self.files.insert(stat, digest.as_bytes())?;
        Ok(())
    }

    fn complete(&self) -> Result<bool, IndexError> {
        Ok(self.db.contains_key(COMPLETE)?)
    }

    fn set_complete(&self) -> Result<(), IndexError> {
        self.db.insert(COMPLETE, COMPLETE)?;
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.db.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let (index, note) = SledIndex::open(&folder.path().join("index")).unwrap();
        assert_eq!(note, None);
        super::super::index::contract(&index);
    }

    #[test]
    fn survives_what_a_kill_while_opening_leaves() {
        for len in [0, 40, 524_288] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("index");
            {
                let (index, _) = SledIndex::open(&path).unwrap();
                super::super::index::contract(&index);
            }
            fs::write(path.join("snap.00000000000000FF.generating"), vec![0; len]).unwrap();
            let (index, note) = SledIndex::open(&path).unwrap();
            assert_eq!(note, None, "{len}");
            assert!(index.complete().unwrap());
        }
    }

    #[test]
    fn a_damaged_one_is_set_aside_and_an_empty_one_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        {
            let (index, _) = SledIndex::open(&path).unwrap();
            super::super::index::contract(&index);
        }
        fs::write(path.join("conf"), b"not a configuration").unwrap();
        let (index, note) = SledIndex::open(&path).unwrap();
        assert!(note.unwrap().starts_with("the index was damaged and is being built again; the old one is kept in "));
        assert!(!index.complete().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
