//! Who may use a cache: runs share it, gc and repair have it to themselves. `flock` on
//! `.blip/lock`, which dies with the process that holds it, so that there is never a stale lock to
//! remove.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a waiting process tries again.
const POLL: Duration = Duration::from_millis(100);

/// Whoever holds a lock, as it wrote of itself. The text is only for messages; the lock is the
/// kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its process id; 0 when it has not written yet.
    pub pid: u32,
    /// The machine it runs on.
    pub host: String,
    /// When it took the lock, in seconds since 1970.
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

    /// Somebody of whom nothing is known.
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

    /// Best effort: who cannot write its name is unknown in the messages of others, and has the
    /// lock all the same.
    fn write(&self, file: &mut File) {
        let Self { pid, host, since } = self;
        let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
        let written = written.and_then(|_| write!(file, "{pid} {host} {since}"));
        if let Err(error) = written {
            tracing::warn!(%error, "a lock's holder could not write its name");
        }
    }
}

/// `process 7 on here, for 12 s`
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("another process");
        }
        let Self { pid, host, since } = self;
        write!(
            f,
            "process {pid} on {host}, for {} s",
            now().saturating_sub(*since)
        )
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// How a cache is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// Together with others who share it.
    Shared,
    /// Exclusive.
    Exclusive,
}

/// The lock of a cache, held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting while others hold it in a way that excludes it. `waiting` is told of
    /// one of them before each try after the first and says whether to go on waiting. Runs that
    /// share a lock are known by `sharers`.
    ///
    /// # Errors
    /// What opening or locking the file gives; `Ok(None)` when `waiting` gave up.
    pub fn acquire(
        path: &Path,
        share: Share,
        sharers: impl Fn() -> Option<Holder>,
        mut waiting: impl FnMut(&Holder) -> bool,
    ) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        loop {
            let tried = match share {
                Share::Shared => file.try_lock_shared(),
                Share::Exclusive => file.try_lock(),
            };
            match tried {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = sharers()
                .filter(|_| share == Share::Exclusive)
                .unwrap_or_else(|| Holder::read(&mut file));
            if !waiting(&holder) {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
        if share == Share::Exclusive {
            Holder::this().write(&mut file);
        }
        Ok(Some(Self { _file: file }))
    }

    /// Shares the lock for reading, if it can be had at once; also on a folder that cannot be
    /// written.
    pub fn share_at_once(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        file.try_lock_shared().ok()?;
        Some(Self { _file: file })
    }
}

/// A file whose lock says that its maker lives. It goes away when its maker ends properly, and
/// counts for nothing when its maker was killed.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    _file: File,
}

/// What came of trying to take a [`LockFile`].
#[derive(Debug)]
pub enum Taken {
    /// It is ours until dropped.
    Held(LockFile),
    /// Somebody else has it.
    HeldByOther(Holder),
}

impl LockFile {
    /// Takes the file, making it if there is none. Never waits.
    ///
    /// # Errors
    /// What opening or locking gives: file systems without locks give `Unsupported` and the like.
    pub fn take(path: &Path) -> io::Result<Taken> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Ok(Taken::HeldByOther(Holder::read(&mut file)));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The holder before may have removed the file between our opening and our locking: then
            // we hold nothing.
            if is_at(&file, path) {
                Holder::this().write(&mut file);
                return Ok(Taken::Held(Self {
                    path: path.to_path_buf(),
                    _file: file,
                }));
            }
        }
    }

    /// Who holds the file; nothing when nobody does.
    pub fn holder(path: &Path) -> Option<Holder> {
        let mut file = File::open(path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(Holder::read(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // While the lock is still held, so that nobody can have taken what is removed.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = |there: std::fs::Metadata| {
        file.metadata()
            .is_ok_and(|ours| (ours.ino(), ours.dev()) == (there.ino(), there.dev()))
    };
    std::fs::metadata(path).is_ok_and(same)
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
    fn runs_share_and_who_wants_it_alone_is_told_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let sharer = || {
            Some(Holder {
                pid: 7,
                host: "here".to_owned(),
                since: 1,
            })
        };
        let first = Lock::acquire(&path, Share::Shared, || None, |_| false)
            .unwrap()
            .unwrap();
        let second = Lock::acquire(&path, Share::Shared, || None, |_| false)
            .unwrap()
            .unwrap();
        let mut seen = None;
        let alone = Lock::acquire(&path, Share::Exclusive, sharer, |holder| {
            seen = Some(holder.clone());
            false
        });
        assert!(alone.unwrap().is_none());
        assert_eq!(seen, sharer());
        drop((first, second));
        let alone = Lock::acquire(&path, Share::Exclusive, sharer, |_| false)
            .unwrap()
            .unwrap();
        let mut seen = None;
        let third = Lock::acquire(
            &path,
            Share::Shared,
            || None,
            |holder| {
                seen = Some(holder.clone());
                false
            },
        );
        assert!(third.unwrap().is_none());
        assert!(seen.unwrap().is_this());
        assert!(Lock::share_at_once(&path).is_none());
        drop(alone);
        assert!(Lock::share_at_once(&path).is_some());
    }

    #[test]
    fn a_lock_file_has_one_holder_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let Taken::Held(first) = LockFile::take(&path).unwrap() else {
            panic!("nobody has it")
        };
        let Taken::HeldByOther(holder) = LockFile::take(&path).unwrap() else {
            panic!("the first has it")
        };
        assert!(holder.is_this());
        assert_eq!(LockFile::holder(&path), Some(holder));
        drop(first);
        assert!(!path.exists());
        assert_eq!(LockFile::holder(&path), None);
        std::fs::write(&path, "1 gone 1").unwrap();
        assert_eq!(LockFile::holder(&path), None, "a file alone is no lock");
        assert!(matches!(LockFile::take(&path).unwrap(), Taken::Held(_)));
    }

    #[test]
    fn threads_that_fight_for_a_lock_file_have_it_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Taken::Held(_held) = LockFile::take(&path).unwrap() {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}
