//! The temporary folder in which files are written before they are published, held by one process
//! at a time, whatever cache each of them has: a lock on the folder, which ends with the process.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::disk::Disk;
use crate::op::OpError;

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
    pub(super) fn acquire(
        folder: PathBuf,
        disk: &Disk,
        mut keep_waiting: impl FnMut() -> bool,
    ) -> Result<Self, OpError> {
        loop {
            let is_other = |metadata: fs::Metadata| !metadata.is_dir();
            if folder.symlink_metadata().is_ok_and(is_other) {
                disk.remove(&folder)?;
            }
            disk.create_temporary_folder(&folder)?;
            match lock(&folder) {
                Ok(Some(lock)) => {
                    remove_content(&folder, disk)?;
                    return Ok(Self {
                        folder,
                        _lock: lock,
                    });
                }
                Ok(None) if keep_waiting() => std::thread::sleep(POLL),
                Ok(None) => {
                    return Err(OpError::failed(
                        format!("another process holds {}", folder.display()),
                        "wait until it has written its files, then run again",
                    ));
                }
                // The process that held it has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!("could not open {}: {error}", folder.display());
                    return Err(OpError::failed(what, "check the folder's disk"));
                }
            }
        }
    }

    /// Where to write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Before the lock ends: afterwards it may be another process's.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The lock, or nothing when another process has it. On a file system without locks there is none
/// to wait for.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::open(folder)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    // The lock may be on a folder that was removed, and created by a third process since.
    let (locked, now) = (file.metadata()?, fs::metadata(folder)?);
    if (locked.dev(), locked.ino()) == (now.dev(), now.ino()) {
        Ok(Some(file))
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What a killed process left.
fn remove_content(folder: &Path, disk: &Disk) -> Result<(), OpError> {
    for name in disk.list_names(folder)? {
        disk.remove(&folder.join(name))?;
    }
    Ok(())
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
        };
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("left"), "by a killed run").unwrap();
        let first = acquire(&mut 1).unwrap();
        assert_eq!(fs::read_dir(first.folder()).unwrap().count(), 0);
        let mut waits = 3;
        let error = acquire(&mut waits).unwrap_err();
        assert_eq!(waits, 0);
        assert_eq!(
            error.to_string(),
            format!("another process holds {}", folder.display())
        );
        assert_eq!(
            error.help(),
            "wait until it has written its files, then run again"
        );
        drop(first);
        assert!(!folder.exists());
        drop(acquire(&mut 1).unwrap());
    }

    #[test]
    fn what_a_link_of_its_name_leads_to_is_not_touched() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, other) = (parent.path().join("staging"), parent.path().join("other"));
        fs::create_dir(&other).unwrap();
        fs::write(other.join("mine"), "mine").unwrap();
        std::os::unix::fs::symlink(&other, &folder).unwrap();
        let staging = Staging::acquire(folder.clone(), &Disk::default(), || false).unwrap();
        fs::write(staging.folder().join("new"), "new").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    }
}
