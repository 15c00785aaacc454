//! The cache folder: what is known already, by content. Everything else in the engine may be lost; this may not.
//!
//! ```text
//! .blip/version              the layout's version
//! .blip/lock                 flock by the one run
//! .blip/objects/aa/<digest>  immutable bytes
//! .blip/results/aa/<key>     records; the rename of one is the commit of a stage
//! .blip/units/aa/<digest>    groups of unit results of map stages; the rename of one is their commit
//! .blip/checkpoints/<key>/   training state, removed when the stage commits
//! .blip/runs/<id>/           the event logs, which all readers read
//! .blip/exports/<digest>     what was written where
//! .blip/index/               sled; disposable
//! .blip/scratch/<pid>/       temporary files of stages, on the cache's own file system
//! .blip/damaged/             objects whose bytes were wrong
//! ```

pub mod checkpoints;
pub mod disk;
pub mod index;
pub mod lock;
mod memory_index;
pub mod objects;
pub mod records;
mod sled_index;
pub mod units;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::checkpoints::Checkpoints;
use self::disk::{Disk, DiskError, TEMPORARY_PREFIX};
use self::index::{Index, IndexError, IndexKind};
use self::lock::{Holder, Lock};
use self::memory_index::MemoryIndex;
use self::objects::Objects;
use self::records::Records;
use self::sled_index::SledIndex;
use self::units::Units;
use crate::digest::Digest;

/// The layout of the folder.
const VERSION: &str = "1";

/// A cache that a run has to itself.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    disk: Disk,
    /// Immutable bytes.
    pub objects: Objects,
    /// Finished stages.
    pub records: Records,
    /// Results of units of map stages.
    pub units: Units,
    _lock: Lock,
}

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Reading or locking failed.
    #[error("could not use the cache {}: {source}", path.display())]
    Io {
        /// The cache or a file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A newer program wrote it.
    #[error("the cache {} has layout {found}, this program knows layout {VERSION}", path.display())]
    Version {
        /// The cache.
        path: PathBuf,
        /// Its layout.
        found: String,
    },
    /// Another run has it and the caller did not want to wait.
    #[error("the cache {} is in use by process {} on {}", path.display(), holder.pid, holder.host)]
    Busy {
        /// The cache.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// Not even an empty index could be made.
    #[error("in the cache {}: {source}", path.display())]
    Index {
        /// The cache.
        path: PathBuf,
        /// What failed.
        source: IndexError,
    },
}

impl CacheError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            CacheError::Disk(error) => error.help().to_owned(),
            CacheError::Io { .. } => {
                "make the folder readable and writable, or name another one with --cache".to_owned()
            }
            CacheError::Version { .. } => {
                "use the program that wrote it, or name another folder with --cache".to_owned()
            }
            CacheError::Busy { .. } => "wait for that run to end, or name another folder with --cache".to_owned(),
            CacheError::Index { .. } => {
                "use --index none, or name a folder on a local disk with --cache: sled needs file locks".to_owned()
            }
        }
    }
}

/// An opened cache and what a user should hear about it.
#[derive(Debug)]
pub struct Opened {
    /// The cache.
    pub cache: Cache,
    /// For example, that a damaged index was set aside.
    pub notes: Vec<String>,
}

impl Cache {
    /// Opens the cache in `folder`, making it if there is none, and waits while another run has it for as long as
    /// `waiting` says.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn open(
        folder: &Path,
        index: IndexKind,
        disk: Disk,
        waiting: impl FnMut(&Holder) -> bool,
    ) -> Result<Opened, CacheError> {
        disk.create_folder(folder)?;
        let io = |source| CacheError::Io { path: folder.to_path_buf(), source };
        let mut holder = None;
        let mut waiting = waiting;
        let lock = Lock::acquire(&folder.join("lock"), |found| {
            holder = Some(found.clone());
            waiting(found)
        });
        let Some(lock) = lock.map_err(io)? else {
            let holder = holder.unwrap_or(Holder { pid: 0, host: "unknown".to_owned(), since: 0 });
            return Err(CacheError::Busy { path: folder.to_path_buf(), holder });
        };
        check_version(folder, &disk)?;
        sweep(folder);
        let (index, note) = open_index(folder, index)?;
        let units = Units::new(folder, disk.clone(), index);
        let mut notes: Vec<String> = note.into_iter().collect();
        notes.extend(units.fill_index().map_err(|source| CacheError::Index { path: folder.to_path_buf(), source })?);
        let cache = Cache {
            folder: folder.to_path_buf(),
            objects: Objects::new(folder, disk.clone()),
            records: Records::new(folder, disk.clone()),
            units,
            disk,
            _lock: lock,
        };
        Ok(Opened { cache, notes })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The disk it writes to.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The checkpoints of the stage with this key.
    pub fn checkpoints(&self, key: &Digest) -> Checkpoints {
        Checkpoints::new(&self.folder, key, self.disk.clone())
    }

    /// The record of a key, if all its objects are there.
    pub fn hit(&self, key: &Digest) -> Option<records::Record> {
        self.records.get(key).filter(|record| record.objects.iter().all(|object| self.objects.contains(object)))
    }
}

fn open_index(folder: &Path, kind: IndexKind) -> Result<(Box<dyn Index>, Option<String>), CacheError> {
    match kind {
        IndexKind::Memory => Ok((Box::new(MemoryIndex::default()), None)),
        IndexKind::Sled => {
            let opened = SledIndex::open(&folder.join("index"));
            let (index, note) = opened.map_err(|source| CacheError::Index { path: folder.to_path_buf(), source })?;
            Ok((Box::new(index), note))
        }
    }
}

fn check_version(folder: &Path, disk: &Disk) -> Result<(), CacheError> {
    let path = folder.join("version");
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() == VERSION => Ok(()),
        Ok(found) => {
            Err(CacheError::Version { path: folder.to_path_buf(), found: found.trim().chars().take(20).collect() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(disk.write(&path, VERSION.as_bytes())?),
        Err(source) => Err(CacheError::Io { path, source }),
    }
}

/// Removes what a killed run left behind: scratch folders and temporary files. The lock is held, so nobody uses them.
fn sweep(folder: &Path) {
    let _ = fs::remove_dir_all(folder.join("scratch"));
    for place in ["", "objects", "results", "units", "checkpoints", "exports"] {
        for entry in fs::read_dir(folder.join(place)).into_iter().flatten().flatten() {
            sweep_entry(&entry.path());
            if !place.is_empty() && entry.path().is_dir() {
                let inner = fs::read_dir(entry.path()).into_iter().flatten().flatten();
                inner.for_each(|entry| sweep_entry(&entry.path()));
            }
        }
    }
}

fn sweep_entry(path: &Path) {
    let temporary = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY_PREFIX));
    if temporary {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}
