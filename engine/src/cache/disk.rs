//! Every write the engine makes goes through here: atomic, synced, and able to fail on purpose in
//! tests.
//!
//! A file appears complete or not at all: temporary file, write, fsync, rename, fsync of the
//! folder. A failed fsync is not retried on the same file, since the kernel may have dropped the
//! pages it could not write: the temporary file is removed and the caller starts again from its
//! bytes. A call that a signal interrupted is made again.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::file_system::FileSystem;

/// One kind of call to the operating system that changes the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syscall {
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

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Syscall::CreateFolder => "create the folder",
            Syscall::Create => "create",
            Syscall::Write => "write",
            Syscall::SyncFile => "sync",
            Syscall::Rename => "rename to",
            Syscall::SyncFolder => "sync the folder",
            Syscall::Remove => "remove",
        })
    }
}

/// A disk that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("could not {call} {}: {source}", path.display())]
pub struct DiskError {
    /// What was asked.
    pub call: Syscall,
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

/// What becomes of a call.
#[derive(Debug)]
pub enum FaultAction {
    /// It is made.
    Make,
    /// A write that takes half of its bytes and says so, as the operating system may.
    Short,
    /// It is not made, and fails with this.
    Fail(io::Error),
    /// A sync that is not made and seems to succeed; other calls are made.
    SkipSync,
}

/// Stands between the engine and the operating system: fails calls, and models what a power cut
/// leaves.
pub trait Hook: Send + Sync {
    /// Decides about a call before it is made.
    fn before(&self, call: Syscall, path: &Path) -> FaultAction;
    /// A call was made and succeeded.
    fn after(&self, call: Syscall, path: &Path);
    /// What kind of file system a folder is on, to be told instead of the real one.
    fn file_system(&self) -> Option<FileSystem> {
        None
    }
}

/// The disk, with or without a hook.
#[derive(Clone, Default)]
pub struct Disk {
    hook: Option<Arc<dyn Hook>>,
    /// Where temporary files are made; beside their targets when there is no such folder.
    temporary: Option<Arc<PathBuf>>,
    /// Folders whose own names are known to be on the disk.
    durable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("hooked", &self.hook.is_some())
            .field("temporary", &self.temporary)
            .finish()
    }
}

/// Told apart by process and counter, so that two processes never share a temporary file.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// How temporary files begin that lie beside their targets.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";
/// A call that is interrupted more often in a row than this has another problem.
const INTERRUPTIONS_MAX: u32 = 100;

impl Disk {
    /// A disk that asks `hook` before every call and tells it afterwards.
    pub fn with_hook(hook: Arc<dyn Hook>) -> Self {
        Self {
            hook: Some(hook),
            ..Self::default()
        }
    }

    /// The same disk with temporary files in this folder, which is on the file system of whatever
    /// is written.
    #[must_use]
    pub fn with_temporary(self, folder: &Path) -> Self {
        Self {
            temporary: Some(Arc::new(folder.to_path_buf())),
            ..self
        }
    }

    /// The kind of file system a folder is on.
    pub fn file_system(&self, folder: &Path) -> FileSystem {
        self.hook
            .as_ref()
            .and_then(|hook| hook.file_system())
            .unwrap_or_else(|| FileSystem::of(folder))
    }

    /// Makes one call; `act` heeds the action, which is not to fail.
    fn attempt<T>(
        &self,
        call: Syscall,
        path: &Path,
        mut act: impl FnMut(&FaultAction) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let mut interruptions = 0;
        loop {
            let made = match self
                .hook
                .as_ref()
                .map_or(FaultAction::Make, |hook| hook.before(call, path))
            {
                FaultAction::Fail(error) => Err(error),
                action => act(&action),
            };
            match made {
                Ok(value) => {
                    if let Some(hook) = &self.hook {
                        hook.after(call, path);
                    }
                    return Ok(value);
                }
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted
                        && interruptions < INTERRUPTIONS_MAX =>
                {
                    interruptions += 1;
                }
                Err(source) => {
                    return Err(DiskError {
                        call,
                        path: path.to_path_buf(),
                        source,
                    });
                }
            }
        }
    }

    /// Makes a folder and those above it, so that they outlive a power cut.
    ///
    /// # Errors
    /// [`DiskError`], as every method here.
    pub fn create_folder(&self, path: &Path) -> Result<(), DiskError> {
        if self.durable().contains(path) && path.is_dir() {
            return Ok(());
        }
        let parent = folder_of(path);
        if !path.is_dir() {
            if !parent.as_os_str().is_empty() && !parent.is_dir() {
                self.create_folder(parent)?;
            }
            self.attempt(Syscall::CreateFolder, path, |_| made(fs::create_dir(path)))?;
        }
        // Also when it was there: whoever made it may have died, or not come to this yet.
        self.sync_folder(parent)?;
        self.durable().insert(path.to_path_buf());
        Ok(())
    }

    /// Makes folders; what they lie in is synced once for all of them.
    pub(crate) fn create_folders(&self, paths: &BTreeSet<&Path>) -> Result<(), DiskError> {
        let known = |path: &Path| self.durable().contains(path) && path.is_dir();
        let new: Vec<&Path> = paths.iter().copied().filter(|path| !known(path)).collect();
        let parents: BTreeSet<&Path> = new.iter().map(|path| folder_of(path)).collect();
        for parent in parents
            .iter()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            self.create_folder(parent)?;
        }
        for path in new.iter().filter(|path| !path.is_dir()) {
            self.attempt(Syscall::CreateFolder, path, |_| made(fs::create_dir(path)))?;
        }
        for parent in parents {
            self.sync_folder(parent)?;
        }
        self.durable()
            .extend(new.iter().map(|path| path.to_path_buf()));
        Ok(())
    }

    /// Makes a folder that need not outlive anything.
    pub fn create_passing_folder(&self, path: &Path) -> Result<(), DiskError> {
        self.attempt(Syscall::CreateFolder, path, |_| fs::create_dir_all(path))
    }

    /// Writes a file that appears whole or not at all, replacing one that is there.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let folder = folder_of(path);
        self.create_folder(folder)?;
        let temporary = self.temporary_for(folder);
        let written = self
            .write_synced(&temporary, bytes)
            .and_then(|()| self.rename(&temporary, path));
        if written.is_err() {
            // It holds nothing anybody needs; if removing fails as well, the next one to open the
            // cache does it.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Writes and syncs a file that nobody looks at before a later rename.
    pub fn write_synced(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let mut file = self.create(path)?;
        file.write(bytes)?;
        file.sync()
    }

    /// Makes an empty file, or empties one that is there.
    pub fn create(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let file = self.attempt(Syscall::Create, path, |_| File::create(path))?;
        Ok(DiskFile {
            file,
            path: path.to_path_buf(),
            disk: self.clone(),
        })
    }

    /// Syncs a file that somebody else wrote, or a folder with everything in it.
    pub fn sync_all(&self, path: &Path) -> Result<(), DiskError> {
        if !path.is_dir() {
            return self.attempt(Syscall::SyncFile, path, |action| {
                sync(action, || File::open(path)?.sync_all())
            });
        }
        let entries =
            fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = entries.map_err(|source| DiskError {
            call: Syscall::SyncFolder,
            path: path.to_path_buf(),
            source,
        });
        for entry in entries? {
            self.sync_all(&entry.path())?;
        }
        self.sync_folder(path)
    }

    /// Renames and syncs the folder of the new name.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.rename_unsynced(from, to)?;
        self.sync_folder(folder_of(to))
    }

    /// Renames; the folder of the new name is synced by the caller.
    pub(crate) fn rename_unsynced(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.attempt(Syscall::Rename, to, |_| fs::rename(from, to))
    }

    /// Syncs a folder, so that renames in it outlive a power cut.
    pub fn sync_folder(&self, path: &Path) -> Result<(), DiskError> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        self.attempt(Syscall::SyncFolder, path, |action| {
            sync(action, || File::open(path)?.sync_all())
        })
    }

    /// Removes a file, or a folder with everything in it; one that is not there is fine. A folder
    /// is first moved to where temporary files are, so that nobody ever sees half of it.
    pub fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let inside = self.temporary.as_ref().is_some_and(|temporary| {
            // `<cache>/tmp/<session>`: what lies elsewhere may lie on another file system.
            let cache = temporary.ancestors().nth(2);
            cache.is_some_and(|cache| path.starts_with(cache))
                && !path.starts_with(temporary.as_path())
        });
        if !(folder && inside) {
            return self.attempt(Syscall::Remove, path, |_| removed(path, folder));
        }
        let doomed = self.temporary_for(folder_of(path));
        self.attempt(Syscall::Rename, path, |_| fs::rename(path, &doomed))?;
        self.sync_folder(folder_of(path))?;
        self.attempt(Syscall::Remove, &doomed, |_| removed(&doomed, folder))
    }

    /// A name for a temporary file that will be renamed into `folder`.
    pub(crate) fn temporary_for(&self, folder: &Path) -> PathBuf {
        let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        match &self.temporary {
            Some(temporary) => temporary.join(number.to_string()),
            None => folder.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id())),
        }
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn removed(path: &Path, folder: bool) -> io::Result<()> {
    let removed = if folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// A folder that somebody else made in the meantime is as good.
fn made(created: io::Result<()>) -> io::Result<()> {
    created.or_else(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            Ok(())
        } else {
            Err(error)
        }
    })
}

fn sync(action: &FaultAction, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if matches!(action, FaultAction::SkipSync) {
        Ok(())
    } else {
        act()
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    /// Writes all of the bytes.
    ///
    /// # Errors
    /// [`DiskError`]; some of the bytes may have been written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let file = &mut self.file;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.disk.attempt(Syscall::Write, &self.path, |action| {
                let len = if matches!(action, FaultAction::Short) {
                    rest.len().div_ceil(2)
                } else {
                    rest.len()
                };
                file.write(rest.get(..len).unwrap_or_default())
            })?;
            if written == 0 {
                let source = io::Error::from(io::ErrorKind::WriteZero);
                return Err(DiskError {
                    call: Syscall::Write,
                    path: self.path.clone(),
                    source,
                });
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Syncs it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn sync(&self) -> Result<(), DiskError> {
        self.disk.attempt(Syscall::SyncFile, &self.path, |action| {
            sync(action, || self.file.sync_all())
        })
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}
