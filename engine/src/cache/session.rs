//! Sessions: a process that writes to a cache has `tmp/<session>.lock`, locked while it lives, and
//! `tmp/<session>/` for its temporary files. What a killed process leaves is removed by the next
//! process, also while others work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::disk::{Disk, DiskError};
use super::lock::{FileLock, FileLockAttempt, Holder, host};
use crate::digest::Digest;

/// This process as a user of a cache.
#[derive(Debug)]
pub(crate) struct Session {
    folder: PathBuf,
    /// `None` on file systems without locks.
    _lock: Option<FileLock>,
}

/// A folder for temporary files, created on first use and removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    /// Where it is created. `None`, where the cache is only read: in the system's folder for
    /// temporary files.
    parent: Option<PathBuf>,
    created: OnceLock<PathBuf>,
    disk: Disk,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Session {
    /// Begins a session, and removes the sessions of dead processes.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(crate) fn begin(cache: &Path, disk: &Disk) -> Result<Self, DiskError> {
        let tmp = cache.join("tmp");
        disk.create_temporary_folder(&tmp)?;
        remove_dead_sessions(&tmp);
        loop {
            let folder = tmp.join(unique_name());
            let lock = match FileLock::try_acquire(&folder.with_extension("lock")) {
                Ok(FileLockAttempt::Held(lock)) => Some(lock),
                Ok(FileLockAttempt::HeldByOther(_)) => continue,
                Err(error) => {
                    tracing::warn!(%error, "without locks, temporary files of killed processes stay");
                    None
                }
            };
            // Only after the lock: a folder without a locked lock file counts as a dead session's.
            disk.create_temporary_folder(&folder)?;
            return Ok(Self {
                folder,
                _lock: lock,
            });
        }
    }

    /// Where its temporary files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Unique also where several machines or containers share a cache: a process id alone is not.
fn unique_name() -> String {
    let pid = std::process::id();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let unique = format!("{} {pid} {now} {count}", host());
    format!("{pid}-{}", Digest::of(unique.as_bytes()).short())
}

/// Whether the name of a file or folder in `tmp/` is that of a session or its lock.
pub(crate) fn is_session_name(name: &str) -> bool {
    let name = name.strip_suffix(".lock").unwrap_or(name);
    let is_short_digest =
        |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('-')
        .is_some_and(|(pid, unique)| pid.parse::<u32>().is_ok() && is_short_digest(unique))
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The processes that write to a cache, the oldest first.
pub(crate) fn active_processes(cache: &Path) -> Vec<Holder> {
    let mut holders: Vec<Holder> = session_locks(&cache.join("tmp"))
        .iter()
        .filter_map(|path| FileLock::holder(path))
        .collect();
    holders.sort_by_key(|holder| holder.since);
    holders
}

/// The path of the lock file of every session, also where only its folder is left. Other files are
/// not blip's.
fn session_locks(tmp: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(tmp)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_session_name))
        .map(|entry| entry.path().with_extension("lock"))
        .collect()
}

/// Acquiring the lock of a session proves that its process is dead, and keeps others from removing
/// the same folder.
fn remove_dead_sessions(tmp: &Path) {
    for path in session_locks(tmp) {
        if let Ok(FileLockAttempt::Held(_lock)) = FileLock::try_acquire(&path) {
            let _ = fs::remove_dir_all(path.with_extension(""));
        }
    }
}

impl Scratch {
    pub(crate) fn new(parent: Option<&Path>, disk: &Disk) -> Self {
        Self {
            parent: parent.map(Path::to_path_buf),
            created: OnceLock::new(),
            disk: disk.clone(),
        }
    }

    /// Its path. If it cannot be created, the first write into it fails.
    pub fn path(&self) -> &Path {
        self.created.get_or_init(|| {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = match &self.parent {
                Some(parent) => parent.join(format!("stage-{count}")),
                None => std::env::temp_dir().join(format!("blip-{}-{count}", std::process::id())),
            };
            if let Err(error) = self.disk.create_temporary_folder(&path) {
                tracing::warn!(%error, "a folder for temporary files could not be created");
            }
            path
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(path) = self.created.get() else {
            return;
        };
        if let Err(error) = self.disk.remove(path) {
            tracing::warn!(%error, "temporary files could not be removed: the next run does it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_sessions_are_removed_and_living_ones_stay() {
        let cache = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let alive = Session::begin(cache.path(), &disk).unwrap();
        fs::write(alive.folder().join("7"), "half").unwrap();
        let dead = cache.path().join("tmp/1-aaaaaaaaaaaa");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("7"), "half").unwrap();
        fs::write(dead.with_extension("lock"), "1 here 1").unwrap();
        fs::create_dir(cache.path().join("tmp/2-bbbbbbbbbbbb")).unwrap();
        let foreign = cache.path().join("tmp/notes");
        fs::create_dir(&foreign).unwrap();
        let other = Session::begin(cache.path(), &disk).unwrap();
        assert!(alive.folder().join("7").is_file());
        assert!(!dead.exists() && !dead.with_extension("lock").exists());
        assert_eq!(active_processes(cache.path()).len(), 2);
        fs::remove_dir(foreign).expect("a folder that is no session's stays");
        drop((alive, other));
        assert_eq!(fs::read_dir(cache.path().join("tmp")).unwrap().count(), 0);
    }
}
