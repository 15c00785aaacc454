//! Every write the cache makes goes through here: atomic, synced, and able to fail on purpose in tests.
//!
//! A file appears complete or not at all: temporary file beside the target, write, fsync, rename, fsync of the folder. A
//! failed fsync is not retried on the same file, since the kernel may have dropped the pages it could not write: the
//! temporary file is removed and the caller starts again from its bytes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One kind of call to the operating system that changes the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Making a folder.
    CreateFolder,
    /// Making a file.
    Create,
    /// Writing into a file.
    Write,
    /// fsync of a file.
    SyncFile,
    /// Renaming a file or folder.
    Rename,
    /// fsync of a folder.
    SyncFolder,
    /// Removing a file or folder.
    Remove,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Call::CreateFolder => "create the folder",
            Call::Create => "create",
            Call::Write => "write",
            Call::SyncFile => "sync",
            Call::Rename => "rename to",
            Call::SyncFolder => "sync the folder",
            Call::Remove => "remove",
        })
    }
}

/// A disk that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("could not {call} {}: {source}", path.display())]
pub struct DiskError {
    /// What was asked.
    pub call: Call,
    /// Of which file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl DiskError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "the disk is full: free some space and run again, nothing that was finished is lost"
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                "make the folder writable, or name another cache folder with --cache"
            }
            _ => "check the disk, then run again: nothing that was finished is lost",
        }
    }
}

/// Decides whether a call fails; `None` lets it through.
pub type Fault = Arc<dyn Fn(Call, &Path) -> Option<io::Error> + Send + Sync>;

/// The disk, with or without faults.
#[derive(Clone, Default)]
pub struct Disk {
    fault: Option<Fault>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("faulty", &self.fault.is_some()).finish()
    }
}

/// Told apart by process and counter, so that two processes never share a temporary file.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// How temporary files begin; what a crash leaves of them is removed when the cache is opened.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

impl Disk {
    /// A disk that asks `fault` before every call.
    pub fn with_faults(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }

    fn attempt<T>(&self, call: Call, path: &Path, act: impl FnOnce() -> io::Result<T>) -> Result<T, DiskError> {
        let fail = |source| DiskError { call, path: path.to_path_buf(), source };
        if let Some(error) = self.fault.as_ref().and_then(|fault| fault(call, path)) {
            return Err(fail(error));
        }
        act().map_err(fail)
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// [`DiskError`], as every method here.
    pub fn create_folder(&self, path: &Path) -> Result<(), DiskError> {
        if path.is_dir() {
            return Ok(());
        }
        self.attempt(Call::CreateFolder, path, || fs::create_dir_all(path))?;
        match path.parent() {
            Some(parent) => self.sync_folder(parent),
            None => Ok(()),
        }
    }

    /// Writes a file that appears whole or not at all, replacing one that is there.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let folder = folder_of(path);
        self.create_folder(folder)?;
        let temporary = temporary_in(folder);
        let written = self.write_synced(&temporary, bytes).and_then(|()| self.rename(&temporary, path));
        if written.is_err() {
            // It holds nothing anybody needs; if removing fails as well, opening the cache does it.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Writes and syncs a file that nobody looks at before a later rename.
    pub fn write_synced(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let mut file = self.attempt(Call::Create, path, || File::create(path))?;
        self.attempt(Call::Write, path, || file.write_all(bytes))?;
        self.attempt(Call::SyncFile, path, || file.sync_all())
    }

    /// Syncs a file that somebody else wrote.
    pub fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        self.attempt(Call::SyncFile, path, || File::open(path)?.sync_all())
    }

    /// Renames and syncs the folder of the new name.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.attempt(Call::Rename, to, || fs::rename(from, to))?;
        self.sync_folder(folder_of(to))
    }

    /// Syncs a folder, so that renames in it outlive a power cut.
    pub fn sync_folder(&self, path: &Path) -> Result<(), DiskError> {
        self.attempt(Call::SyncFolder, path, || File::open(path)?.sync_all())
    }

    /// Removes a file, or a folder with everything in it; one that is not there is fine.
    pub fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.attempt(Call::Remove, path, || {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        })
    }
}

/// A name for a temporary file in a folder.
pub(crate) fn temporary_in(folder: &Path) -> PathBuf {
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}
