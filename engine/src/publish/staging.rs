//! The temporary folder in which files are written before they are published, held by one process
//! at a time, whatever cache each of them has.
//!
//! The lock is on a file beside the folder, which network file systems can lock too, and ends with
//! the process. File and folder are removed at the end.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::disk::{Disk, DiskError};

/// How often a folder that another process holds is tried again.
const POLL: Duration = Duration::from_millis(20);

/// An empty folder to write into, removed when this is dropped.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Staging {
    /// `None` when another process holds the folder and `keep_waiting` says no.
    pub(super) fn acquire(
        folder: PathBuf,
        disk: &Disk,
        mut keep_waiting: impl FnMut() -> bool,
    ) -> Result<Option<Self>, DiskError> {
        let lock = loop {
            match lock(&lock_path(&folder), disk)? {
                Attempt::Locked(file) => break file,
                Attempt::Held if !keep_waiting() => return Ok(None),
                Attempt::Held => std::thread::sleep(POLL),
                Attempt::Removed => {}
            }
        };
        // What a killed process left, or something else of this name.
        disk.remove(&folder)?;
        disk.create_temporary_folder(&folder)?;
        Ok(Some(Self {
            folder,
            _lock: lock,
        }))
    }

    /// Where to write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a killed process has left something.
    pub(super) fn is_left(folder: &Path) -> bool {
        [folder, &lock_path(folder)]
            .iter()
            .any(|path| path.symlink_metadata().is_ok())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Before the lock ends: afterwards they may be another process's.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(lock_path(&self.folder));
    }
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

/// What became of an attempt to take the lock.
enum Attempt {
    Locked(File),
    /// Another process has it.
    Held,
    /// Whoever had it has removed the file since it was opened.
    Removed,
}

fn lock(path: &Path, disk: &Disk) -> Result<Attempt, DiskError> {
    let file = disk.open_lock(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(Attempt::Held),
        // On a file system without locks there is no one to wait for.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    let is_same = |now: fs::Metadata| {
        let locked = file.metadata()?;
        io::Result::Ok((locked.dev(), locked.ino()) == (now.dev(), now.ino()))
    };
    let is_there = fs::symlink_metadata(path).and_then(is_same);
    Ok(if is_there.unwrap_or(false) {
        Attempt::Locked(file)
    } else {
        Attempt::Removed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_it_and_the_next_finds_it_empty() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("staging");
        let disk = Disk::default();
        let acquire = |waits: &mut u32| {
            Staging::acquire(folder.clone(), &disk, || {
                *waits -= 1;
                *waits > 0
            })
            .unwrap()
        };
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("left"), "by a killed run").unwrap();
        let first = acquire(&mut 1).unwrap();
        assert_eq!(fs::read_dir(first.folder()).unwrap().count(), 0);
        let mut waits = 3;
        assert!(acquire(&mut waits).is_none());
        assert_eq!(waits, 0);
        drop(first);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        drop(acquire(&mut 1).unwrap());
    }

    #[test]
    fn what_a_link_of_its_name_leads_to_is_not_touched() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, other) = (parent.path().join("staging"), parent.path().join("other"));
        fs::create_dir(&other).unwrap();
        fs::write(other.join("mine"), "mine").unwrap();
        std::os::unix::fs::symlink(&other, &folder).unwrap();
        let staging = Staging::acquire(folder.clone(), &Disk::default(), || false);
        let staging = staging.unwrap().unwrap();
        fs::write(staging.folder().join("new"), "new").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, other) = (parent.path().join("staging"), parent.path().join("other"));
        std::os::unix::fs::symlink(&other, lock_path(&folder)).unwrap();
        let error = Staging::acquire(folder.clone(), &Disk::default(), || true).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "could not create {}: Too many levels of symbolic links (os error 40)",
                lock_path(&folder).display()
            )
        );
        assert!(other.symlink_metadata().is_err() && lock_path(&folder).is_symlink());
    }
}
