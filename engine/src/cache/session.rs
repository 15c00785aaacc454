//! A process at work in a cache: `tmp/<session>.lock`, locked as long as it lives, and
//! `tmp/<session>/` for its temporary files. What a killed process leaves behind is removed by the
//! next one, also while others work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::disk::{Disk, DiskError};
use super::lock::{Holder, LockFile, Taken, host};
use crate::digest::Digest;

/// One user of a cache.
#[derive(Debug)]
pub(crate) struct Session {
    folder: PathBuf,
    /// Nothing on file systems without locks.
    _lock: Option<LockFile>,
}

/// A folder for temporary files, made when it is first asked for and removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    /// Where it is made; without, in the system's place for temporary files, for those who do not
    /// write to the cache.
    parent: Option<PathBuf>,
    made: OnceLock<PathBuf>,
    disk: Disk,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Session {
    /// Begins a session, and removes what dead ones left.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(crate) fn begin(cache: &Path, disk: &Disk) -> Result<Self, DiskError> {
        let tmp = cache.join("tmp");
        disk.create_passing_folder(&tmp)?;
        sweep(&tmp);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos());
        let pid = std::process::id();
        loop {
            // Two machines, or two containers, may share a cache: a process id alone names nobody.
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let unique = format!("{} {pid} {now} {count}", host());
            let folder = tmp.join(format!("{pid}-{}", Digest::of(unique.as_bytes()).short()));
            let lock = match LockFile::take(&folder.with_extension("lock")) {
                Ok(Taken::Held(lock)) => Some(lock),
                Ok(Taken::HeldByOther(_)) => continue,
                Err(error) => {
                    tracing::warn!(%error, "no locks here: what a killed process leaves stays");
                    None
                }
            };
            disk.create_passing_folder(&folder)?;
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

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The processes that are at work in a cache, the longest one first.
pub(crate) fn at_work(cache: &Path) -> Vec<Holder> {
    let mut holders: Vec<Holder> = locks(&cache.join("tmp"))
        .iter()
        .filter_map(|path| LockFile::holder(path))
        .collect();
    holders.sort_by_key(|holder| holder.since);
    holders
}

/// The lock of every session, also where only its folder is left of it.
fn locks(tmp: &Path) -> BTreeSet<PathBuf> {
    let paths = fs::read_dir(tmp)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    paths.map(|path| path.with_extension("lock")).collect()
}

/// Removes the sessions of processes that are gone. A session has its lock before it has its
/// folder.
fn sweep(tmp: &Path) {
    for path in locks(tmp) {
        if let Ok(Taken::Held(_lock)) = LockFile::take(&path) {
            let _ = fs::remove_dir_all(path.with_extension(""));
        }
    }
}

impl Scratch {
    pub(crate) fn new(parent: Option<&Path>, disk: &Disk) -> Self {
        Self {
            parent: parent.map(Path::to_path_buf),
            made: OnceLock::new(),
            disk: disk.clone(),
        }
    }

    /// Where it is. If it cannot be made, whoever writes into it hears of that.
    pub fn path(&self) -> &Path {
        self.made.get_or_init(|| {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = match &self.parent {
                Some(parent) => parent.join(format!("stage-{count}")),
                None => std::env::temp_dir().join(format!("blip-{}-{count}", std::process::id())),
            };
            if let Err(error) = self.disk.create_passing_folder(&path) {
                tracing::warn!(%error, "a folder for temporary files is missing");
            }
            path
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(path) = self.made.get() else { return };
        if let Err(error) = self.disk.remove(path) {
            tracing::warn!(%error, "temporary files stay until the next run");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_swept_and_the_living_are_not() {
        let cache = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let alive = Session::begin(cache.path(), &disk).unwrap();
        fs::write(alive.folder().join("7"), "half").unwrap();
        let dead = cache.path().join("tmp/1-aaaa");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("7"), "half").unwrap();
        fs::write(dead.with_extension("lock"), "1 here 1").unwrap();
        fs::create_dir(cache.path().join("tmp/2-bbbb")).unwrap();
        let other = Session::begin(cache.path(), &disk).unwrap();
        assert!(alive.folder().join("7").is_file());
        assert!(!dead.exists() && !dead.with_extension("lock").exists());
        assert_eq!(at_work(cache.path()).len(), 2);
        drop((alive, other));
        assert_eq!(fs::read_dir(cache.path().join("tmp")).unwrap().count(), 0);
    }
}
