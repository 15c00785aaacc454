//! Who may use a cache: runs share it, gc has it exclusively. `flock` on `.blip/lock` ends with the
//! process that holds it, so there is never a stale lock to remove.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a waiting process tries again.
const POLL: Duration = Duration::from_millis(100);

/// The holder of a lock, as it wrote into the lock's file. The text is only for messages; the lock
/// is the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// 0 when it has not written yet.
    pub pid: u32,
    pub host: String,
    /// When it acquired the lock, in seconds since 1970.
    pub since: u64,
}

impl Holder {
    /// This process, from now on.
    pub fn this() -> Self {
        Self {
            pid: std::process::id(),
            host: host(),
            since: now(),
        }
    }

    pub fn unknown() -> Self {
        Self {
            pid: 0,
            host: "unknown".to_owned(),
            since: 0,
        }
    }

    /// Whether it is this very process.
    pub fn is_this(&self) -> bool {
        self.pid == std::process::id() && self.host == host()
    }

    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        // A holder that has not written yet reads as unknown; the next try sees more.
        let _ = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_string(&mut text));
        let mut words = text.split_whitespace();
        Self {
            pid: words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
            host: words.next().unwrap_or("unknown").to_owned(),
            since: words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
        }
    }

    /// Best effort: a holder that cannot write its name has the lock all the same, and is unknown
    /// in the messages of others.
    fn write_or_warn(&self, file: &mut File) {
        if let Err(error) = self.write(file) {
            tracing::warn!(%error, "the holder of a lock could not write its name");
        }
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        let Self { pid, host, since } = self;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        write!(file, "{pid} {host} {since}")
    }
}

/// `process 7 on here, for 12 s`
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("another process");
        }
        let Self { pid, host, since } = self;
        let seconds = now().saturating_sub(*since);
        write!(f, "process {pid} on {host}, for {seconds} s")
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// The lock of a cache, held until dropped.
#[derive(Debug)]
pub struct CacheLock {
    file: File,
    is_exclusive: bool,
}

impl Drop for CacheLock {
    fn drop(&mut self) {
        // The name of a process that is gone would be taken for that of the next holder.
        if self.is_exclusive {
            let _ = self.file.set_len(0);
        }
    }
}

impl CacheLock {
    /// Acquires the lock together with others, waiting while a process holds it exclusively.
    /// `waiting` gets that process after each failed try and says whether to continue.
    ///
    /// # Errors
    /// What opening or locking the file gives; `Ok(None)` when `waiting` gave up.
    pub fn acquire_shared(
        path: &Path,
        waiting: impl FnMut(&Holder) -> bool,
    ) -> io::Result<Option<Self>> {
        let mut file = open_lock_file(path)?;
        let acquired = wait_for(&mut file, File::try_lock_shared, Holder::read, waiting)?;
        Ok(acquired.then_some(Self {
            file,
            is_exclusive: false,
        }))
    }

    /// Acquires the lock for this process alone, waiting while others hold it. Those that share it
    /// do not write into its file, so `sharer` finds one of them for `waiting`.
    ///
    /// # Errors
    /// As [`CacheLock::acquire_shared`].
    pub fn acquire_exclusive(
        path: &Path,
        sharer: impl Fn() -> Option<Holder>,
        waiting: impl FnMut(&Holder) -> bool,
    ) -> io::Result<Option<Self>> {
        let mut file = open_lock_file(path)?;
        let holder = |file: &mut File| sharer().unwrap_or_else(|| Holder::read(file));
        if !wait_for(&mut file, File::try_lock, holder, waiting)? {
            return Ok(None);
        }
        Holder::this().write_or_warn(&mut file);
        Ok(Some(Self {
            file,
            is_exclusive: true,
        }))
    }

    /// Acquires the lock together with others if that is possible without waiting; also in a folder
    /// that cannot be written.
    pub fn try_acquire_shared(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        file.try_lock_shared().ok()?;
        Some(Self {
            file,
            is_exclusive: false,
        })
    }
}

/// Tries to lock a file until it succeeds or `waiting` gives up; says whether it is locked. It
/// polls instead of blocking in `flock`, so that it can be interrupted and can say who it waits
/// for.
fn wait_for(
    file: &mut File,
    try_lock: impl Fn(&File) -> Result<(), TryLockError>,
    holder: impl Fn(&mut File) -> Holder,
    mut waiting: impl FnMut(&Holder) -> bool,
) -> io::Result<bool> {
    loop {
        match try_lock(file) {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        if !waiting(&holder(file)) {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
}

/// A file that is locked exclusively while its creator lives, and removed when the lock is dropped.
/// The file of a killed process stays, without a lock, and has no meaning.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    _file: File,
}

/// The result of trying to acquire a [`FileLock`].
#[derive(Debug)]
pub enum FileLockAttempt {
    Held(FileLock),
    HeldByOther(Holder),
}

impl FileLock {
    /// Locks the file, creating it if there is none. Never waits.
    ///
    /// # Errors
    /// What opening or locking gives: file systems without locks give `Unsupported` and the like.
    pub fn try_acquire(path: &Path) -> io::Result<FileLockAttempt> {
        loop {
            let mut file = open_lock_file(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = Holder::read(&mut file);
                    return Ok(FileLockAttempt::HeldByOther(holder));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The previous holder may have removed the file after it was opened here and before it
            // was locked. A lock on a file without a name excludes no other process: try again.
            if is_at(&file, path) {
                Holder::this().write_or_warn(&mut file);
                return Ok(FileLockAttempt::Held(Self {
                    path: path.to_path_buf(),
                    _file: file,
                }));
            }
        }
    }

    /// The process that holds the file; `None` when it is not locked.
    pub fn holder(path: &Path) -> Option<Holder> {
        let mut file = File::open(path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(Holder::read(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // The lock is released after this, when the file is closed: what is removed here cannot be
        // another process's.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a path leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    (open.ino(), open.dev()) == (named.ino(), named.dev())
}

/// The name of this machine.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or("unknown".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_locks_coexist_and_an_exclusive_one_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let sharer = || {
            Some(Holder {
                pid: 7,
                host: "here".to_owned(),
                since: 1,
            })
        };
        let shared = || {
            CacheLock::acquire_shared(&path, |_| false)
                .unwrap()
                .unwrap()
        };
        let (first, second) = (shared(), shared());
        let mut seen = None;
        let exclusive = CacheLock::acquire_exclusive(&path, sharer, |holder| {
            seen = Some(holder.clone());
            false
        });
        assert!(exclusive.unwrap().is_none());
        assert_eq!(seen, sharer());
        drop((first, second));
        let exclusive = CacheLock::acquire_exclusive(&path, sharer, |_| false)
            .unwrap()
            .unwrap();
        let mut seen = None;
        let third = CacheLock::acquire_shared(&path, |holder| {
            seen = Some(holder.clone());
            false
        });
        assert!(third.unwrap().is_none());
        assert!(seen.unwrap().is_this());
        assert!(CacheLock::try_acquire_shared(&path).is_none());
        drop(exclusive);
        assert!(CacheLock::try_acquire_shared(&path).is_some());
        let left = std::fs::read_to_string(&path).unwrap();
        assert_eq!(left, "", "the name goes with the lock");
    }

    #[test]
    fn a_file_lock_has_one_holder_and_is_removed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let FileLockAttempt::Held(first) = FileLock::try_acquire(&path).unwrap() else {
            panic!("it is free")
        };
        let FileLockAttempt::HeldByOther(holder) = FileLock::try_acquire(&path).unwrap() else {
            panic!("the first holds it")
        };
        assert!(holder.is_this());
        assert_eq!(FileLock::holder(&path), Some(holder));
        drop(first);
        assert!(!path.exists());
        assert_eq!(FileLock::holder(&path), None);
        std::fs::write(&path, "1 gone 1").unwrap();
        assert_eq!(
            FileLock::holder(&path),
            None,
            "a file without a lock means nothing"
        );
        assert!(matches!(
            FileLock::try_acquire(&path).unwrap(),
            FileLockAttempt::Held(_)
        ));
    }

    #[test]
    fn threads_hold_a_file_lock_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let FileLockAttempt::Held(_held) = FileLock::try_acquire(&path).unwrap()
                        {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}
