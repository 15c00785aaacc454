//! Opening a cache: its lock, its session, its version, and where its index is.

use std::io;
use std::path::Path;

use super::corrupt::CorruptFolder;
use super::disk::Disk;
use super::file_system::FileSystem;
use super::identity::{self, CacheFolder};
use super::index::IndexKind;
use super::lock::{CacheLock, Holder};
use super::lookup::SledLocation;
use super::session::{self, Session};
use super::{Access, Cache, CacheError, Opened, VERSION};

impl Cache {
    /// Opens the cache in `folder`, creating it unless it is only read. While another process holds
    /// a lock that excludes this one, it waits as long as `waiting` returns true.
    ///
    /// # Errors
    /// [`CacheError`]; in a folder that blip did not create, nothing is written.
    pub fn open(
        folder: &Path,
        index: IndexKind,
        disk: Disk,
        access: Access,
        waiting: impl FnMut(&Holder) -> bool,
    ) -> Result<Opened, CacheError> {
        CacheFolder::examine(folder, &disk)?;
        if access == Access::Read {
            return Self::open_for_reading(folder, disk);
        }
        disk.create_folder(folder)?;
        let mut notes = Vec::new();
        // The lock comes first: the session's clean-up and the version file belong to whoever may
        // write here.
        let lock = acquire_lock(folder, access, waiting, &mut notes)?;
        let session = Session::begin(folder, &disk)?;
        let disk = disk.with_temporary(session.folder());
        let corrupt = CorruptFolder::new(folder, disk.clone());
        check_version(folder, &disk, &corrupt)?;
        identity::write_tag(folder, &disk)?;
        let sled = sled_location(folder, index, &disk, &corrupt, &mut notes);
        Ok(Opened {
            cache: Self::assemble(folder, disk, corrupt, sled, Some(session), lock),
            notes,
        })
    }

    /// A reader does without what it cannot have: no lock while gc works, no version in a folder
    /// that is no cache yet. It writes nothing, so it has neither a session nor an index on disk.
    fn open_for_reading(folder: &Path, disk: Disk) -> Result<Opened, CacheError> {
        let lock = CacheLock::try_acquire_shared(&folder.join("lock"));
        if let Some(found) = disk.read_unless_folder(&folder.join("version"))? {
            let found = String::from_utf8_lossy(&found);
            if found.trim() != VERSION {
                return Err(other_version(folder, &found));
            }
        }
        let corrupt = CorruptFolder::read_only(folder);
        Ok(Opened {
            cache: Self::assemble(folder, disk, corrupt, None, None, lock),
            notes: Vec::new(),
        })
    }
}

fn acquire_lock(
    folder: &Path,
    access: Access,
    mut waiting: impl FnMut(&Holder) -> bool,
    notes: &mut Vec<String>,
) -> Result<Option<CacheLock>, CacheError> {
    let path = folder.join("lock");
    let mut holder = Holder::unknown();
    let keep_waiting = |found: &Holder| {
        holder = found.clone();
        waiting(found)
    };
    let acquired = if access == Access::Exclusive {
        // A shared lock has no single holder to name, but every process has a session.
        let sharer = || session::active_processes(folder).into_iter().next();
        CacheLock::acquire_exclusive(&path, sharer, keep_waiting)
    } else {
        CacheLock::acquire_shared(&path, keep_waiting)
    };
    match acquired {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(CacheError::Busy {
            path: folder.to_path_buf(),
            holder,
        }),
        // A run is correct without locks. gc is not: it might remove what a run is about to use.
        Err(error) if access == Access::Run && lacks_locks(&error) => {
            let text = "file locks do not work where the cache is: runs at the same time may do \
                        the same work twice";
            notes.push(text.to_owned());
            Ok(None)
        }
        Err(source) => Err(CacheError::Io { path, source }),
    }
}

/// The errors of file systems without locks: ENOLCK, ENOSYS, EOPNOTSUPP, and the kernel's own
/// ENOTSUPP, which NFS lets through and which has no [`io::ErrorKind`].
fn lacks_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(37 | 38 | 95 | 524))
}

/// Where the index in sled is, if the cache has one.
fn sled_location(
    folder: &Path,
    kind: IndexKind,
    disk: &Disk,
    corrupt: &CorruptFolder,
    notes: &mut Vec<String>,
) -> Option<SledLocation> {
    if kind == IndexKind::Memory {
        return None;
    }
    if let FileSystem::Network(name) = disk.file_system(folder) {
        notes.push(format!(
            "the cache is on {name}, where sled is not safe: the index is kept in memory and \
             rebuilt by every run; a folder on a local disk (--cache) starts faster, and --index \
             none turns this warning off"
        ));
        return None;
    }
    Some(SledLocation {
        folder: folder.join("index"),
        corrupt: corrupt.clone(),
        disk: disk.clone(),
    })
}

fn other_version(folder: &Path, found: &str) -> CacheError {
    CacheError::Version {
        path: folder.to_path_buf(),
        found: found.trim().chars().take(20).collect(),
    }
}

/// Refuses a cache of another version, and writes the version where it is missing or unreadable. A
/// number is always another program's, since this file is written atomically; anything else is
/// corrupt.
fn check_version(folder: &Path, disk: &Disk, corrupt: &CorruptFolder) -> Result<(), CacheError> {
    let path = folder.join("version");
    let found = match disk.read(&path) {
        Err(error) if error.is_a_folder() => Some(Vec::new()),
        read => read?,
    };
    if let Some(found) = found {
        let found = String::from_utf8_lossy(&found);
        if found.trim() == VERSION {
            return Ok(());
        }
        if found.trim().parse::<u64>().is_ok() {
            return Err(other_version(folder, &found));
        }
        corrupt.move_in(&path)?;
    }
    Ok(disk.write(&path, VERSION.as_bytes())?)
}
