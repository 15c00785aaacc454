//! The cache folder: what is known already, by content. Everything else in the engine may be lost;
//! this may not.
//!
//! ```text
//! .blip/version              the layout's version
//! .blip/lock                 flock: shared by runs, alone for those who remove
//! .blip/objects/aa/<digest>  immutable bytes
//! .blip/results/aa/<key>     records; the rename of one is the commit of a stage
//! .blip/units/aa/<digest>    groups of unit results of map stages; the rename of one is their commit
//! .blip/files/aa/<digest>    groups of digests of the user's files
//! .blip/checkpoints/<key>/   training state, removed when the stage commits
//! .blip/growth/<digest>/     final training states, for stages that go on where a shorter one ended
//! .blip/leases/<key>         flock by whoever runs the stage of this key
//! .blip/ledgers/<digest>     what every stage of a workflow last came to; disposable
//! .blip/maps/<digest>        what chunks of datasets became in a map stage; disposable
//! .blip/runs/<id>/           the event logs, which all readers read
//! .blip/exports/<digest>     what was written where
//! .blip/index/               sled; disposable. index.lock: flock by whoever has it open
//! .blip/tmp/<session>/       temporary files of a process; <session>.lock: flock that says it lives
//! .blip/evicted/aa/<key>     records whose results were removed to make room
//! .blip/damaged/             what was wrong, moved out of the way
//! ```
//!
//! Several processes work in one cache. None of them needs another for being right: names are
//! digests and renames are atomic, so the worst that two can do is the same work twice, and leases
//! keep them from that.

pub mod checkpoints;
pub mod damaged;
pub mod disk;
pub mod file_digests;
pub mod file_system;
mod groups;
pub mod index;
pub mod ledger;
pub mod lock;
mod lookup;
pub(crate) mod map_tables;
mod memory_index;
pub mod objects;
mod presence;
pub mod records;
pub(crate) mod sealed;
pub mod session;
mod sled_index;
mod together;
pub mod units;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::checkpoints::Checkpoints;
use self::damaged::Damaged;
use self::disk::{Disk, DiskError};
use self::file_digests::FileDigests;
use self::file_system::FileSystem;
use self::groups::Groups;
use self::index::IndexKind;
use self::lock::{Holder, Lock, LockFile, Share, Taken};
use self::lookup::{Lookup, SledPlace};
use self::objects::Objects;
pub(crate) use self::presence::Presence;
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
    /// To remove from it, alone.
    Exclusive,
    /// To read it, also while others work, and where it cannot be written.
    Read,
}

/// An open cache.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    disk: Disk,
    damaged: Damaged,
    /// Immutable bytes.
    pub objects: Objects,
    /// StageResult stages.
    pub records: Records,
    /// Results of units of map stages.
    pub units: Units,
    /// Digests of the user's files.
    pub files: FileDigests,
    lookup: Arc<Lookup>,
    session: Option<Session>,
    lock: Option<Lock>,
}

/// Who runs the stage of a key.
#[derive(Debug)]
pub enum Lease {
    /// This process, as long as it is held. Nothing is held where locks do not work.
    Held(Option<LockFile>),
    /// Somebody else, or another stage of this run.
    HeldByOther(Holder),
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
    /// Another process has it and the caller did not want to wait.
    #[error("the cache {} is in use by {holder}", path.display())]
    Busy {
        /// The cache.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
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
            CacheError::Busy { .. } => {
                "wait for that process to end, or name another folder with --cache".to_owned()
            }
        }
    }
}

/// An opened cache and what a user should hear about it.
#[derive(Debug)]
pub struct Opened {
    /// The cache.
    pub cache: Cache,
    /// For example, that file locks do not work where it is.
    pub notes: Vec<String>,
}

impl Cache {
    /// Opens the cache in `folder`, making it if there is none and it is not only read, and waits
    /// while another process has it in a way that excludes this one for as long as `waiting` says.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn open(
        folder: &Path,
        index: IndexKind,
        disk: Disk,
        access: Access,
        waiting: impl FnMut(&Holder) -> bool,
    ) -> Result<Opened, CacheError> {
        if access == Access::Read {
            return Self::open_for_reading(folder, disk);
        }
        disk.create_folder(folder)?;
        let mut notes = Vec::new();
        let lock = take_lock(folder, access, waiting, &mut notes)?;
        let session = Session::begin(folder, &disk)?;
        let disk = disk.with_temporary(session.folder());
        let damaged = Damaged::new(folder, disk.clone());
        check_version(folder, &disk, &damaged)?;
        let sled = sled_place(folder, index, &disk, &damaged, &mut notes);
        Ok(Opened {
            cache: Self::assemble(folder, disk, damaged, sled, Some(session), lock),
            notes,
        })
    }

    fn open_for_reading(folder: &Path, disk: Disk) -> Result<Opened, CacheError> {
        let lock = Lock::share_at_once(&folder.join("lock"));
        match fs::read_to_string(folder.join("version")) {
            Ok(found) if found.trim() != VERSION => return Err(other_version(folder, &found)),
            _ => {}
        }
        let cache = Self::assemble(folder, disk, Damaged::untouched(folder), None, None, lock);
        Ok(Opened {
            cache,
            notes: Vec::new(),
        })
    }

    fn assemble(
        folder: &Path,
        disk: Disk,
        damaged: Damaged,
        sled: Option<SledPlace>,
        session: Option<Session>,
        lock: Option<Lock>,
    ) -> Self {
        let groups = |name: &str| Groups::new(folder.join(name), disk.clone(), damaged.clone());
        let lookup = Arc::new(Lookup::new(sled, groups("units"), groups("files")));
        Self {
            folder: folder.to_path_buf(),
            objects: Objects::new(folder, disk.clone(), damaged.clone()),
            records: Records::new(folder, disk.clone(), damaged.clone()),
            units: Units::new(Arc::clone(&lookup)),
            files: FileDigests::new(Arc::clone(&lookup)),
            lookup,
            disk,
            damaged,
            session,
            lock,
        }
    }

    /// Whether it is locked, so that nobody removes anything meanwhile: always, except where it is
    /// only read and somebody just removes, or there are no locks.
    pub(crate) fn is_held(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether it is open to be written to.
    pub(crate) fn is_written(&self) -> bool {
        self.session.is_some()
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
        Checkpoints::new(&self.folder, key, self.disk.clone(), self.damaged.clone())
    }

    /// The final training state of a stage that differs in one growing argument, which has this
    /// value, only.
    pub(crate) fn growth(&self, rest: &Digest, value: u64) -> Checkpoints {
        Checkpoints::of_growth(
            &self.folder,
            rest,
            value,
            self.disk.clone(),
            self.damaged.clone(),
        )
    }

    /// A new folder for temporary files.
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.session.as_ref().map(Session::folder), &self.disk)
    }

    /// Asks for the right to run the stage of a key. Never waits, and never fails: where there are
    /// no locks, everybody has the right, and the worst is work done twice.
    pub fn lease(&self, key: &Digest) -> Lease {
        let folder = self.folder.join("leases");
        let taken = match fs::create_dir_all(&folder) {
            Ok(()) => LockFile::take(&folder.join(key.to_string())),
            Err(error) => Err(error),
        };
        match taken {
            Ok(Taken::Held(lock)) => Lease::Held(Some(lock)),
            Ok(Taken::HeldByOther(holder)) => Lease::HeldByOther(holder),
            Err(error) => {
                tracing::warn!(%error, "a stage runs without a lease");
                Lease::Held(None)
            }
        }
    }

    /// Moves a damaged file out of the way, and says where it is now.
    pub(crate) fn set_aside(&self, path: &Path) -> Option<PathBuf> {
        self.damaged.set_aside_quietly(path, "found damaged")
    }

    /// Opens the index now, lest whoever first asks it has to wait.
    pub(crate) fn open_index(&self) {
        self.lookup.ready();
    }

    /// Where a damaged index is that was replaced when it was opened.
    pub(crate) fn index_aside(&self) -> Option<PathBuf> {
        self.lookup.aside()
    }

    /// Whether the index outlives this process.
    pub(crate) fn has_index(&self) -> bool {
        self.lookup.lasts()
    }

    /// Whether the index knows the units of a group, and where they are.
    pub(crate) fn index_agrees(&self, group: &Digest) -> bool {
        let Some(chunk) = self.lookup.units.get(group) else {
            return true;
        };
        let keys: Vec<Digest> = chunk.items.iter().map(|item| item.id).collect();
        let known = self.lookup.unit_places(&keys);
        let right = |(key, place): (&Digest, &Option<index::Place>)| match place {
            Some(place) if place.group == *group => chunk
                .items
                .get(place.slot as usize)
                .is_some_and(|item| item.id == *key),
            // Another group has the same unit: whether that is so is looked at when it is read.
            Some(_) => true,
            None => false,
        };
        keys.iter().zip(&known).all(right)
    }

    /// The index is wrong: whoever opens it next builds it again.
    pub(crate) fn condemn_index(&self) {
        self.lookup.caught_lying();
    }

    /// What a user should hear about the cache since it was last asked.
    pub fn take_notes(&self) -> Vec<String> {
        self.lookup.take_notes()
    }

    /// Writes down what is only remembered: the end of a run.
    pub fn flush(&self) {
        if let Err(error) = self.files.commit() {
            tracing::warn!(%error, "digests of files could not be stored: the files may be read again");
        }
        self.lookup.flush();
    }

    /// To ask whether results that a ledger tells of are still there. Nothing where there are none.
    pub(crate) fn presence(&self) -> Option<Presence> {
        Presence::open(&self.folder.join("results"), &self.folder.join("objects"))
    }

    /// The record of a key, if all its objects are there.
    pub fn hit(&self, key: &Digest) -> Option<records::Record> {
        self.records
            .get(key)
            .filter(|record| record.needs().all(|object| self.objects.contains(object)))
    }
}

fn take_lock(
    folder: &Path,
    access: Access,
    mut waiting: impl FnMut(&Holder) -> bool,
    notes: &mut Vec<String>,
) -> Result<Option<Lock>, CacheError> {
    let share = if access == Access::Exclusive {
        Share::Exclusive
    } else {
        Share::Shared
    };
    let mut holder = Holder::unknown();
    let sharers = || session::at_work(folder).into_iter().next();
    let lock = Lock::acquire(&folder.join("lock"), share, sharers, |found| {
        holder = found.clone();
        waiting(found)
    });
    match lock {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(CacheError::Busy {
            path: folder.to_path_buf(),
            holder,
        }),
        Err(error) if access == Access::Run && lacks_locks(&error) => {
            let text = "file locks do not work where the cache is: runs at the same time may do the same work twice";
            notes.push(text.to_owned());
            Ok(None)
        }
        Err(source) => Err(CacheError::Io {
            path: folder.join("lock"),
            source,
        }),
    }
}

/// What file systems without locks say: ENOLCK, ENOSYS, EOPNOTSUPP, and the kernel's own ENOTSUPP
/// that NFS lets through.
fn lacks_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(37 | 38 | 95 | 524))
}

/// Where the index in sled is, if the cache has one.
fn sled_place(
    folder: &Path,
    kind: IndexKind,
    disk: &Disk,
    damaged: &Damaged,
    notes: &mut Vec<String>,
) -> Option<SledPlace> {
    if kind == IndexKind::Memory {
        return None;
    }
    if let FileSystem::Network(name) = disk.file_system(folder) {
        notes.push(format!(
            "the cache is on {name}, where sled is not safe: the index is kept in memory and read anew by every run; a \
             folder on a local disk (--cache) starts faster, and --index none says nothing"
        ));
        return None;
    }
    Some(SledPlace {
        folder: folder.join("index"),
        damaged: damaged.clone(),
    })
}

fn other_version(folder: &Path, found: &str) -> CacheError {
    CacheError::Version {
        path: folder.to_path_buf(),
        found: found.trim().chars().take(20).collect(),
    }
}

fn check_version(folder: &Path, disk: &Disk, damaged: &Damaged) -> Result<(), CacheError> {
    let path = folder.join("version");
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() == VERSION => return Ok(()),
        Ok(found) if found.trim().parse::<u64>().is_ok() => {
            return Err(other_version(folder, &found));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // No version of this program wrote that.
        Ok(_) | Err(_) => {
            damaged.set_aside(&path)?;
        }
    }
    Ok(disk.write(&path, VERSION.as_bytes())?)
}
