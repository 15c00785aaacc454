//! What a cache takes on the disk, and how it is kept within bounds.

mod collect;
mod roots;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cache::{Access, Cache, CacheError};
use crate::digest::Digest;
use crate::history::PIN_NAME;
use crate::{Engine, EngineError};

pub use self::collect::{Collect, Collected, Evicted};

/// Files and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// How many files.
    pub files: u64,
    /// What they hold, in bytes.
    pub bytes: u64,
}

/// What a cache takes, by what it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskUse {
    /// The parts by name, in the order of the layout; parts without files are left out.
    pub parts: Vec<(&'static str, Amount)>,
}

/// The folders of a cache, and what is in them.
pub const PARTS: [(&str, &str); 14] = [
    ("objects", "results and their parts"),
    ("results", "records of finished stages"),
    ("units", "results of single items"),
    ("files", "digests of input files"),
    ("checkpoints", "states of unfinished trainings"),
    ("growth", "final states of trainings"),
    ("index", "the index; disposable"),
    ("ledgers", "the last results of workflows; disposable"),
    ("maps", "tables of map stages; disposable"),
    ("runs", "event logs"),
    ("exports", "what was written where"),
    ("evicted", "records of removed results"),
    ("damaged", "what was damaged"),
    ("tmp", "temporary files"),
];

/// What a cache takes. A cache that does not exist takes nothing; nothing is locked.
///
/// # Errors
/// What listing its folders gives.
pub fn disk_use(cache: &Path) -> io::Result<DiskUse> {
    let mut parts = Vec::new();
    for (name, _) in PARTS {
        let amount = files(&cache.join(name))?
            .iter()
            .fold(Amount::default(), |sum, file| sum + file.bytes);
        if amount.files > 0 {
            parts.push((name, amount));
        }
    }
    Ok(DiskUse { parts })
}

impl DiskUse {
    /// All of it.
    pub fn total(&self) -> Amount {
        self.parts
            .iter()
            .fold(Amount::default(), |sum, (_, part)| Amount {
                files: sum.files + part.files,
                bytes: sum.bytes + part.bytes,
            })
    }
}

impl std::ops::Add<u64> for Amount {
    type Output = Self;

    /// One more file of so many bytes.
    fn add(self, bytes: u64) -> Self {
        Self {
            files: self.files + 1,
            bytes: self.bytes + bytes,
        }
    }
}

impl Engine {
    /// What the cache takes.
    ///
    /// # Errors
    /// [`EngineError::Cache`] when it cannot be listed.
    pub fn disk_use(&self) -> Result<DiskUse, EngineError> {
        let path = self.config.cache.clone();
        disk_use(&path).map_err(|source| CacheError::Io { path, source }.into())
    }

    /// Removes what is not needed. Waits until no run is at work in the cache, unless `no_wait`.
    ///
    /// # Errors
    /// [`EngineError::Cache`]; what was removed until then stays removed.
    pub fn collect(&self, options: &Collect, no_wait: bool) -> Result<Collected, EngineError> {
        let (folder, disk) = (&self.config.cache, self.disk.clone());
        if !folder.is_dir() {
            return Ok(Collected::default());
        }
        let cache = Cache::open(folder, self.config.index, disk, Access::Exclusive, |_| {
            !no_wait
        })?
        .cache;
        Ok(collect::collect(&cache, options)?)
    }

    /// Pins a run, so that its results are never removed, or unpins it.
    ///
    /// # Errors
    /// [`EngineError::Cache`] when there is no such run, or the pin cannot be written.
    pub fn pin(&self, run: &str, pinned: bool) -> Result<(), EngineError> {
        let folder = self.config.cache.join("runs").join(run);
        if !folder.is_dir() {
            return Err(CacheError::Io {
                path: folder,
                source: io::ErrorKind::NotFound.into(),
            }
            .into());
        }
        let path = folder.join(PIN_NAME);
        let done = if pinned {
            self.disk.write(&path, b"")
        } else {
            self.disk.remove(&path)
        };
        Ok(done.map_err(CacheError::from)?)
    }
}

/// A file found in a cache.
struct Found {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Found {
    /// The digest that it is named by.
    fn digest(&self) -> Option<Digest> {
        self.path.file_name()?.to_str()?.parse().ok()
    }

    fn older_than(&self, age: Duration, now: SystemTime) -> bool {
        now.duration_since(self.modified)
            .is_ok_and(|found| found >= age)
    }
}

/// All files below a folder. Those that go away meanwhile are left out.
fn files(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Found {
                    path: entry.path(),
                    bytes: metadata.len(),
                    modified,
                });
            }
        }
    }
    Ok(found)
}

/// The entries of a folder with everything below each of them, by name.
fn entries(folder: &Path) -> io::Result<BTreeMap<PathBuf, (Amount, SystemTime)>> {
    let mut entries: BTreeMap<PathBuf, (Amount, SystemTime)> = BTreeMap::new();
    for file in files(folder)? {
        let Some(first) = file
            .path
            .strip_prefix(folder)
            .ok()
            .and_then(|inner| inner.components().next())
        else {
            continue;
        };
        let entry = entries
            .entry(folder.join(first))
            .or_insert((Amount::default(), SystemTime::UNIX_EPOCH));
        *entry = (entry.0 + file.bytes, entry.1.max(file.modified));
    }
    Ok(entries)
}
