//! The disk usage of a cache, and garbage collection.

mod collect;
mod roots;
mod warm_starts;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cache::corrupt;
use crate::cache::identity::CacheFolder;
use crate::cache::lock::Holder;
use crate::cache::{Access, Cache, CacheError};
use crate::digest::Digest;
use crate::history::PIN_NAME;
use crate::{Engine, EngineError};

pub use self::collect::{EvictedResult, GcOptions, GcReport};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    pub files: u64,
    pub bytes: u64,
}

/// The disk usage of a cache, by part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskUsage {
    /// In the order of [`PARTS`]; parts without files are left out.
    pub parts: Vec<(&'static str, Amount)>,
}

/// The parts of a cache, by the name of their folder, and what is in them.
pub const PARTS: [(&str, &str); 14] = [
    ("objects", "results and their parts"),
    ("results", "records of finished stages"),
    ("units", "results of single items"),
    ("files", "digests of input files"),
    ("checkpoints", "states of unfinished trainings"),
    ("growth", "warm starts: final states of trainings"),
    ("index", "the index; disposable"),
    ("ledgers", "the last results of workflows; disposable"),
    ("maps", "tables of map stages; disposable"),
    ("runs", "event logs"),
    ("exports", "what earlier versions exported"),
    ("evicted", "records of removed results"),
    (corrupt::FOLDER, "corrupt files"),
    ("tmp", "temporary files"),
];

/// The folders of a part: its own, and the one that earlier versions used.
fn part_folders(cache: &Path, part: &str) -> Vec<PathBuf> {
    let mut folders = vec![cache.join(part)];
    if part == corrupt::FOLDER {
        folders.push(cache.join(corrupt::FOLDER_BEFORE));
    }
    folders
}

/// The disk usage of a cache. One that does not exist takes nothing; nothing is locked.
///
/// # Errors
/// What listing its folders gives.
pub fn disk_usage(cache: &Path) -> io::Result<DiskUsage> {
    let mut parts = Vec::new();
    for (name, _) in PARTS {
        let mut amount = Amount::default();
        for folder in part_folders(cache, name) {
            for file in list_files(&folder)? {
                amount = amount + file.bytes;
            }
        }
        if amount.files > 0 {
            parts.push((name, amount));
        }
    }
    Ok(DiskUsage { parts })
}

impl DiskUsage {
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

    /// Adds one file of this many bytes.
    fn add(self, bytes: u64) -> Self {
        Self {
            files: self.files + 1,
            bytes: self.bytes + bytes,
        }
    }
}

impl Engine {
    /// # Errors
    /// [`EngineError::Cache`] when it cannot be listed, or the folder is no cache.
    pub fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        self.has_cache()?;
        let path = self.config.cache.clone();
        disk_usage(&path).map_err(|source| CacheError::Io { path, source }.into())
    }

    /// Removes results that are not needed. Waits until no run uses the cache, unless `no_wait`.
    ///
    /// # Errors
    /// [`EngineError::Cache`]; what was removed until then stays removed.
    pub fn collect(&self, options: &GcOptions, no_wait: bool) -> Result<GcReport, EngineError> {
        self.collect_while(options, |_| !no_wait)
    }

    /// The same. While a run uses the cache, it waits as long as `keep_waiting` returns true.
    ///
    /// # Errors
    /// As [`Engine::collect`].
    pub fn collect_while(
        &self,
        options: &GcOptions,
        keep_waiting: impl FnMut(&Holder) -> bool,
    ) -> Result<GcReport, EngineError> {
        let folder = &self.config.cache;
        if !self.has_cache()? {
            return Ok(GcReport::default());
        }
        let opened = Cache::open(
            folder,
            self.config.index,
            self.disk.clone(),
            Access::Exclusive,
            keep_waiting,
        )?;
        Ok(collect::collect(&opened.cache, options)?)
    }

    /// Pins a run, so that its results are never collected, or unpins it.
    ///
    /// # Errors
    /// [`EngineError::Cache`] when there is no such run, or the pin cannot be written.
    pub fn pin(&self, run: &str, pinned: bool) -> Result<(), EngineError> {
        let folder = self.config.cache.join("runs").join(run);
        if !(self.has_cache()? && folder.is_dir()) {
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

impl Engine {
    /// Whether blip has created the cache: what would work in it has nothing to do otherwise.
    pub(crate) fn has_cache(&self) -> Result<bool, CacheError> {
        let found = CacheFolder::examine(&self.config.cache, &self.disk)?;
        Ok(found == CacheFolder::Cache)
    }
}

struct CacheFile {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl CacheFile {
    /// The digest in its name.
    fn digest(&self) -> Option<Digest> {
        self.path.file_name()?.to_str()?.parse().ok()
    }

    /// A file from the future, as after a clock was set back, is not older than anything.
    fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        now.duration_since(self.modified)
            .is_ok_and(|found| found >= age)
    }
}

/// All files below a folder. Those that are removed meanwhile are left out.
fn list_files(folder: &Path) -> io::Result<Vec<CacheFile>> {
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
                found.push(CacheFile {
                    path: entry.path(),
                    bytes: metadata.len(),
                    modified,
                });
            }
        }
    }
    Ok(found)
}

/// A file or folder directly in a folder, with everything in it.
struct CacheEntry {
    path: PathBuf,
    amount: Amount,
    /// When its newest file was modified.
    modified: SystemTime,
}

/// The entries of a folder, by name. Folders without files are left out.
fn list_entries(folder: &Path) -> io::Result<Vec<CacheEntry>> {
    let mut entries: BTreeMap<PathBuf, CacheEntry> = BTreeMap::new();
    for file in list_files(folder)? {
        let inner = file.path.strip_prefix(folder).ok();
        let Some(name) = inner.and_then(|inner| inner.iter().next()) else {
            continue;
        };
        let path = folder.join(name);
        let entry = entries.entry(path.clone()).or_insert(CacheEntry {
            path,
            amount: Amount::default(),
            modified: SystemTime::UNIX_EPOCH,
        });
        entry.amount = entry.amount + file.bytes;
        entry.modified = entry.modified.max(file.modified);
    }
    Ok(entries.into_values().collect())
}
