//! The cache folder: results of stages, named by content. Everything else in the engine may be
//! lost; this may not.
//!
//! ```text
//! .blip/CACHEDIR.TAG         marks the folder as a cache that blip created
//! .blip/version              the layout's version
//! .blip/lock                 flock: shared by runs, exclusive for gc
//! .blip/objects/aa/<digest>  immutable bytes
//! .blip/results/aa/<key>     records; the rename of one is the commit of a stage
//! .blip/units/aa/<digest>    groups of unit results; the rename of one commits them
//! .blip/files/aa/<digest>    groups of digests of the user's files
//! .blip/checkpoints/<key>/   training state, removed when the stage commits
//! .blip/growth/<digest>/     warm starts: final states that a longer training resumes from
//! .blip/leases/<key>         flock by the process that runs the stage of this key
//! .blip/ledgers/<digest>     the last result of every stage of a workflow; disposable
//! .blip/maps/<digest>        output chunks of a map stage by input chunk; disposable
//! .blip/runs/<id>/           event logs
//! .blip/exports/<digest>     which files exports of earlier versions wrote
//! .blip/index/               sled; disposable. index.lock: flock by the process that has it open
//! .blip/tmp/<session>/       temporary files of a process; <session>.lock: flock while it lives
//! .blip/evicted/aa/<key>     records whose results gc removed
//! .blip/corrupt/             corrupt files, moved here. Earlier versions named it `damaged`
//! ```
//!
//! Several processes work in one cache. Correctness does not depend on the locks: names are digests
//! and renames are atomic, so the worst that two processes can do is the same work twice. Leases
//! prevent that.

mod batch_write;
pub mod checkpoints;
pub(crate) mod checksummed;
pub mod corrupt;
pub mod disk;
mod disk_read;
mod existence;
pub mod file_digests;
pub mod file_system;
mod groups;
pub mod identity;
pub mod index;
pub mod ledger;
pub mod lock;
mod lookup;
pub(crate) mod map_tables;
mod memory_index;
pub mod objects;
mod open;
pub mod records;
pub mod session;
mod sled_index;
pub mod stage_result;
pub mod units;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::checkpoints::Checkpoints;
use self::corrupt::CorruptFolder;
use self::disk::{Disk, DiskError};
pub(crate) use self::existence::ExistenceCheck;
use self::file_digests::FileDigests;
use self::groups::Groups;
use self::lock::{CacheLock, FileLock, FileLockAttempt, Holder};
use self::lookup::{Lookup, SledLocation};
use self::objects::Objects;
use self::records::Records;
use self::session::{Scratch, Session};
use self::units::Units;
use crate::digest::Digest;

/// The layout of the folder.
const VERSION: &str = "1";

/// How a cache is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To add to it, together with others.
    Run,
    /// To remove from it. No other process uses it meanwhile.
    Exclusive,
    /// To read it, also while others work, and where it cannot be written.
    Read,
}

/// An open cache.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    disk: Disk,
    corrupt: CorruptFolder,
    pub objects: Objects,
    pub records: Records,
    pub units: Units,
    pub files: FileDigests,
    lookup: Arc<Lookup>,
    session: Option<Session>,
    lock: Option<CacheLock>,
}

/// The right to run the stage of a key.
#[derive(Debug)]
pub enum Lease {
    /// This process has it until the lock is dropped. `None` on file systems without locks.
    Held(Option<FileLock>),
    /// Another process has it, or another stage of this run.
    HeldByOther(Holder),
}

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Reading or locking failed.
    #[error("could not use the cache {}: {source}", path.display())]
    Io {
        /// The cache or a file in it.
        path: PathBuf,
        source: io::Error,
    },
    /// blip did not create it, and something is in it.
    #[error("{} is not a blip cache: it contains `{example}`", path.display())]
    Foreign {
        path: PathBuf,
        /// The name of a file or folder in it.
        example: String,
    },
    /// Another version of the program wrote it.
    #[error("the cache {} has layout {found}, this program knows layout {VERSION}", path.display())]
    Version { path: PathBuf, found: String },
    /// Another process has locked it and the caller gave up waiting.
    #[error("the cache {} is in use by {holder}", path.display())]
    Busy { path: PathBuf, holder: Holder },
}

impl CacheError {
    /// Whether the cache could not be written, though it may be readable.
    pub(crate) fn is_read_only(&self) -> bool {
        match self {
            CacheError::Disk(error) => error.is_read_only(),
            CacheError::Io { source, .. } => disk::is_read_only(source),
            _ => false,
        }
    }

    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            CacheError::Disk(error) => error.help().to_owned(),
            CacheError::Io { .. } => {
                "make the folder readable and writable, or name another one with --cache".to_owned()
            }
            CacheError::Foreign { .. } => {
                "name another folder with --cache: a cache, or one that is empty or does not exist"
                    .to_owned()
            }
            CacheError::Version { .. } => {
                "use the program that wrote it, or name another folder with --cache".to_owned()
            }
            CacheError::Busy { .. } => {
                "wait for that process to end, or name another folder with --cache".to_owned()
            }
        }
    }
}

/// An opened cache.
#[derive(Debug)]
pub struct Opened {
    pub cache: Cache,
    /// Warnings for the user, for example that file locks do not work where the cache is.
    pub notes: Vec<String>,
}

impl Cache {
    fn assemble(
        folder: &Path,
        disk: Disk,
        corrupt: CorruptFolder,
        sled: Option<SledLocation>,
        session: Option<Session>,
        lock: Option<CacheLock>,
    ) -> Self {
        let units = Groups::new(folder.join("units"), disk.clone(), corrupt.clone());
        let files = Groups::new(folder.join("files"), disk.clone(), corrupt.clone());
        let lookup = Arc::new(Lookup::new(sled, units, files));
        Self {
            folder: folder.to_path_buf(),
            objects: Objects::new(folder, disk.clone(), corrupt.clone()),
            records: Records::new(folder, disk.clone(), corrupt.clone()),
            units: Units::new(Arc::clone(&lookup)),
            files: FileDigests::new(Arc::clone(&lookup), session.is_some()),
            lookup,
            disk,
            corrupt,
            session,
            lock,
        }
    }

    /// Whether it is locked, so that no other process removes anything meanwhile. It is, except
    /// where locks do not work, or where it is only read and gc has the lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.session.is_some()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The disk it writes to.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The checkpoints of the stage with this key.
    pub fn checkpoints(&self, key: &Digest) -> Checkpoints {
        Checkpoints::new(&self.folder, key, self.disk.clone(), self.corrupt.clone())
    }

    /// The final training state of the stage that has `value` for its growing argument. `rest` is
    /// the digest of everything else in its key.
    pub(crate) fn warm_start(&self, rest: &Digest, value: u64) -> Checkpoints {
        let (disk, corrupt) = (self.disk.clone(), self.corrupt.clone());
        Checkpoints::for_warm_start(&self.folder, rest, value, disk, corrupt)
    }

    /// A new folder for temporary files.
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.session.as_ref().map(Session::folder), &self.disk)
    }

    /// Tries to get the right to run the stage of a key. Never waits, and never fails: where locks
    /// do not work, every process gets it, and the worst is work done twice.
    pub fn lease(&self, key: &Digest) -> Lease {
        if !self.is_writable() {
            return Lease::Held(None);
        }
        let folder = self.folder.join("leases");
        let attempt = fs::create_dir_all(&folder)
            .and_then(|()| FileLock::try_acquire(&folder.join(key.to_string())));
        match attempt {
            Ok(FileLockAttempt::Held(lock)) => Lease::Held(Some(lock)),
            Ok(FileLockAttempt::HeldByOther(holder)) => Lease::HeldByOther(holder),
            Err(error) => {
                tracing::warn!(%error, "a stage runs without a lease");
                Lease::Held(None)
            }
        }
    }

    /// Moves a corrupt file to `corrupt/`, and says where it is now.
    pub(crate) fn move_to_corrupt(&self, path: &Path) -> Option<PathBuf> {
        self.corrupt.move_in_or_warn(path, "found corrupt")
    }

    /// Opens the index ahead of its first use, which would otherwise wait for it.
    pub(crate) fn open_index(&self) {
        self.lookup.open_now();
    }

    /// Where a corrupt index was moved that was replaced when it was opened.
    pub(crate) fn corrupt_index(&self) -> Option<PathBuf> {
        self.lookup.corrupt_index()
    }

    /// Whether the index outlives this process.
    pub(crate) fn has_persistent_index(&self) -> bool {
        self.lookup.is_persistent()
    }

    /// Whether the index knows all units of a group. An entry that leads to this group must lead to
    /// the right slot.
    pub(crate) fn index_matches(&self, group: &Digest) -> bool {
        let Ok(Some(chunk)) = self.lookup.units.get(group) else {
            return true;
        };
        let keys: Vec<Digest> = chunk.items.iter().map(|item| item.id).collect();
        let Ok(locations) = self.lookup.unit_locations(&keys) else {
            return true;
        };
        keys.iter()
            .zip(&locations)
            .all(|(key, location)| match location {
                Some(location) if location.group == *group => chunk
                    .items
                    .get(location.slot as usize)
                    .is_some_and(|item| item.id == *key),
                // Two groups may hold the same unit. The other one is checked on its own.
                Some(_) => true,
                None => false,
            })
    }

    /// Stops using the index, and has the next process that opens it rebuild it.
    pub(crate) fn invalidate_index(&self) {
        self.lookup.invalidate();
    }

    /// Warnings about the cache for the user, since the last call.
    pub fn take_notes(&self) -> Vec<String> {
        self.lookup.take_notes()
    }

    /// Writes what is only in memory. Called at the end of a run.
    pub fn flush(&self) {
        self.files.commit_or_warn();
        self.lookup.flush();
    }

    /// Checks whether results from a ledger still exist. `None` where there are no results at all.
    pub(crate) fn existence_check(&self) -> Option<ExistenceCheck> {
        ExistenceCheck::open(&self.folder.join("results"), &self.folder.join("objects"))
    }

    /// The record of a key, if all its objects exist.
    ///
    /// # Errors
    /// [`DiskError`] when that is not known: what cannot be read is not missing.
    pub fn hit(&self, key: &Digest) -> Result<Option<records::Record>, DiskError> {
        let Some(record) = self.records.get(key)? else {
            return Ok(None);
        };
        for object in record.referenced_objects() {
            if !self.objects.contains(object)? {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }
}
