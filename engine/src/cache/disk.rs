//! All writes of the engine: atomic and synced. Tests inject faults here. Reads are in `disk_read`.
//!
//! A file appears complete or not at all: temporary file, write, fsync, rename, fsync of the
//! folder. Without the first fsync, the name could survive a power cut and the bytes not; without
//! the second, the bytes could and the name not.
//!
//! A failed fsync is not retried on the same file: the kernel may have dropped the pages that it
//! could not write, and the next fsync then succeeds. The temporary file is removed and the caller
//! starts over from its bytes. A call that a signal interrupted is repeated.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::file_system::FileSystem;

/// A kind of system call. All but `Read` change the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syscall {
    Read,
    CreateFolder,
    Create,
    Write,
    SyncFile,
    Rename,
    SyncFolder,
    Remove,
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Syscall::Read => "read",
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

/// A system call that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {call} {}: {source}", path.display())]
pub struct DiskError {
    pub call: Syscall,
    /// The file or folder; of a rename, the new name.
    pub path: PathBuf,
    pub source: io::Error,
}

impl DiskError {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        if let Some(help) = limit_help(&self.source) {
            return help;
        }
        match self.source.kind() {
            io::ErrorKind::PermissionDenied if self.call == Syscall::Read => {
                "make the file readable, or name another cache folder with --cache"
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                "make the folder writable, or name another cache folder with --cache"
            }
            _ => "check the disk and run again; finished results are kept",
        }
    }

    /// Whether a folder is where a file was to be read.
    pub fn is_a_folder(&self) -> bool {
        self.source.kind() == io::ErrorKind::IsADirectory
    }

    /// Whether the disk or the folder cannot be written, by this user at least.
    pub(crate) fn is_read_only(&self) -> bool {
        self.call != Syscall::Read && is_read_only(&self.source)
    }
}

/// What to do about an error that says that something is used up: the disk, or what this process
/// may use of it.
pub fn limit_help(error: &io::Error) -> Option<&'static str> {
    if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) {
        return Some("raise the limit of open files (`ulimit -n`) and run again");
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("the disk is full: free some space and run again; finished results are kept")
        }
        io::ErrorKind::FileTooLarge => Some(
            "raise the limit of file sizes (`ulimit -f`) and run again; finished results are kept",
        ),
        _ => None,
    }
}

pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// What happens to a system call.
#[derive(Debug)]
pub enum FaultAction {
    Proceed,
    /// A write writes half of its bytes and reports that, as the operating system may. Other calls
    /// proceed.
    ShortWrite,
    /// The call is not made, and fails with this error.
    Fail(io::Error),
    /// A sync is not made and reports success. Other calls proceed.
    SkipSync,
}

/// Stands between the engine and the operating system in tests: fails calls, and models what a
/// power cut leaves.
pub trait Hook: Send + Sync {
    /// Decides about a call before it is made.
    fn before(&self, call: Syscall, path: &Path) -> FaultAction;
    /// A call was made and succeeded.
    fn after(&self, call: Syscall, path: &Path);
    /// Decides about a read before it is made. It is not counted among the calls above: it changes
    /// nothing.
    ///
    /// # Errors
    /// The error that the read fails with.
    fn before_read(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    /// The file system to report for every folder, instead of the real one.
    fn file_system(&self) -> Option<FileSystem> {
        None
    }
}

/// The disk, with or without a hook.
#[derive(Clone, Default)]
pub struct Disk {
    hook: Option<Arc<dyn Hook>>,
    /// Where temporary files are created. `None`: beside their targets.
    temporary: Option<Arc<PathBuf>>,
    /// Folders whose own names are known to be on the disk, so that each is synced once.
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

/// With the process id, it makes the names of temporary files unique.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// The prefix of temporary files beside their targets.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";
/// A call that is interrupted more often in a row fails: no signal arrives that often.
const INTERRUPTIONS_MAX: u32 = 100;

impl Disk {
    /// A disk that calls `hook` before and after every system call.
    pub fn with_hook(hook: Arc<dyn Hook>) -> Self {
        Self {
            hook: Some(hook),
            ..Self::default()
        }
    }

    /// The same disk with temporary files in this folder. It must be on the file system of all that
    /// is written, since files are renamed from there.
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

    pub(super) fn before_read(&self, path: &Path) -> io::Result<()> {
        match &self.hook {
            Some(hook) => hook.before_read(path),
            None => Ok(()),
        }
    }

    /// Makes one system call that changes the disk. `act` makes it as the action says, which is
    /// never `Fail`.
    fn attempt<T>(
        &self,
        call: Syscall,
        path: &Path,
        mut act: impl FnMut(&FaultAction) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let mut interruptions = 0;
        loop {
            let action = match &self.hook {
                Some(hook) => hook.before(call, path),
                None => FaultAction::Proceed,
            };
            let result = match action {
                FaultAction::Fail(error) => Err(error),
                action => act(&action),
            };
            match result {
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

    /// Creates a folder and its missing ancestors, so that they survive a power cut.
    ///
    /// # Errors
    /// [`DiskError`], as every method here.
    pub fn create_folder(&self, path: &Path) -> Result<(), DiskError> {
        if self.is_durable(path) {
            return Ok(());
        }
        let parent = folder_of(path);
        if !path.is_dir() {
            if !parent.as_os_str().is_empty() && !parent.is_dir() {
                self.create_folder(parent)?;
            }
            self.create_one_folder(path)?;
        }
        // Also when the folder existed: the process that created it may have died before this sync,
        // or not have reached it yet.
        self.sync_folder(parent)?;
        self.durable().insert(path.to_path_buf());
        Ok(())
    }

    /// Creates several folders; each parent is synced once.
    pub(crate) fn create_folders(&self, paths: &BTreeSet<&Path>) -> Result<(), DiskError> {
        let new: Vec<&Path> = paths
            .iter()
            .copied()
            .filter(|path| !self.is_durable(path))
            .collect();
        let parents: BTreeSet<&Path> = new.iter().map(|path| folder_of(path)).collect();
        for parent in &parents {
            if !parent.as_os_str().is_empty() {
                self.create_folder(parent)?;
            }
        }
        for path in &new {
            if !path.is_dir() {
                self.create_one_folder(path)?;
            }
        }
        for parent in parents {
            self.sync_folder(parent)?;
        }
        self.durable()
            .extend(new.iter().map(|path| path.to_path_buf()));
        Ok(())
    }

    /// A folder that another process creates at the same time is as good.
    fn create_one_folder(&self, path: &Path) -> Result<(), DiskError> {
        self.attempt(Syscall::CreateFolder, path, |_| {
            ignore(fs::create_dir(path), io::ErrorKind::AlreadyExists)
        })
    }

    /// A folder that was removed since is not durable, whatever was noted of it.
    fn is_durable(&self, path: &Path) -> bool {
        self.durable().contains(path) && path.is_dir()
    }

    /// Creates a folder that does not have to survive a power cut.
    pub fn create_temporary_folder(&self, path: &Path) -> Result<(), DiskError> {
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
            // If this fails as well, the next process that opens the cache removes the file.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Writes and syncs a file that has a temporary name until a later rename.
    pub fn write_synced(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let mut file = self.create(path)?;
        file.write(bytes)?;
        file.sync()
    }

    /// Creates an empty file, or truncates an existing one.
    pub fn create(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let file = self.attempt(Syscall::Create, path, |_| File::create(path))?;
        Ok(DiskFile {
            file,
            path: path.to_path_buf(),
            disk: self.clone(),
        })
    }

    /// Opens a file to be locked, and creates it if there is none. Follows no link. For reading
    /// too: to open a pipe for writing alone would wait for a reader.
    pub(crate) fn open_lock(&self, path: &Path) -> Result<File, DiskError> {
        self.attempt(Syscall::Create, path, |_| {
            File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(path)
        })
    }

    /// Syncs a file that was not written through here, or a folder with everything in it.
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

    /// Renames, and syncs the folder of the new name.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.rename_unsynced(from, to)?;
        self.sync_folder(folder_of(to))
    }

    /// Renames to a name that nothing has; false if something has it. File systems that cannot say
    /// so replace it.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> Result<bool, DiskError> {
        let renamed = self.attempt(Syscall::Rename, to, |_| {
            match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    fs::rename(from, to).map(|()| true)
                }
                Err(error) => Err(error.into()),
            }
        })?;
        self.sync_folder(folder_of(to))?;
        Ok(renamed)
    }

    /// Renames. The caller syncs the folder of the new name.
    pub(crate) fn rename_unsynced(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.attempt(Syscall::Rename, to, |_| fs::rename(from, to))
    }

    /// Syncs a folder, so that renames in it survive a power cut.
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

    /// Removes a file, or a folder with everything in it. It is no error when there is none.
    ///
    /// A folder of the cache is renamed into the folder of temporary files first: removing it takes
    /// many calls, and a kill in between must not leave half of it under its name.
    pub fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        if !(is_folder && self.can_rename_to_temporary(path)) {
            return self.attempt(Syscall::Remove, path, |_| remove_all(path, is_folder));
        }
        let temporary = self.temporary_for(folder_of(path));
        self.attempt(Syscall::Rename, path, |_| fs::rename(path, &temporary))?;
        self.sync_folder(folder_of(path))?;
        self.attempt(Syscall::Remove, &temporary, |_| {
            remove_all(&temporary, is_folder)
        })
    }

    /// Whether a path is in the cache, and so on the file system of the temporary files, and is not
    /// temporary itself.
    fn can_rename_to_temporary(&self, path: &Path) -> bool {
        let Some(temporary) = &self.temporary else {
            return false;
        };
        // `<cache>/tmp/<session>`
        let cache = temporary.ancestors().nth(2);
        cache.is_some_and(|cache| path.starts_with(cache)) && !path.starts_with(temporary.as_path())
    }

    /// A name for a temporary file that will be renamed into `folder`.
    pub(crate) fn temporary_for(&self, folder: &Path) -> PathBuf {
        let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        match &self.temporary {
            Some(temporary) => temporary.join(number.to_string()),
            None => folder.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id())),
        }
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_all(path: &Path, is_folder: bool) -> io::Result<()> {
    let result = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    ignore(result, io::ErrorKind::NotFound)
}

/// Takes one kind of error for success.
fn ignore(result: io::Result<()>, kind: io::ErrorKind) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        result => result,
    }
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
                let len = if matches!(action, FaultAction::ShortWrite) {
                    rest.len().div_ceil(2)
                } else {
                    rest.len()
                };
                file.write(rest.get(..len).unwrap_or_default())
            })?;
            // Trying again would not end: the disk accepts nothing and reports no error.
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

    /// # Errors
    /// [`DiskError`].
    pub fn sync(&self) -> Result<(), DiskError> {
        self.disk.attempt(Syscall::SyncFile, &self.path, |action| {
            sync(action, || self.file.sync_all())
        })
    }
}

/// The folder that a file is in. It is empty for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}
