//! A scan of the cache that begins before its run.
//!
//! To check each result's files once before a run begins is what makes a run without work fast. It
//! needs the workflow's name and not its text: [`Engine::prefetch`](crate::Engine::prefetch) does
//! it while the text is still parsed and checked.

mod scan;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub(crate) use self::scan::CacheScan;
use crate::cache::Cache;

/// A scan that runs in a thread of its own. Clones share it; the first run that takes it has it.
#[derive(Clone, Debug)]
pub struct Prefetch {
    folder: PathBuf,
    workflow: String,
    thread: Arc<Mutex<Option<JoinHandle<Option<PrefetchedScan>>>>>,
}

/// A scan, and the cache that it was made of: while that is open, nothing is evicted from it.
/// Corrupt files may still be moved away; a stage that reads one notices.
#[derive(Debug)]
pub(crate) struct PrefetchedScan {
    pub(crate) scan: CacheScan,
    _cache: Cache,
}

impl Prefetch {
    /// Begins to scan the cache that `open` opens. The scan is empty if that cache is not locked: a
    /// collection may be removing from it what the scan finds.
    pub(crate) fn begin(
        folder: &Path,
        workflow: &str,
        open: impl FnOnce() -> Option<Cache> + Send + 'static,
    ) -> Self {
        let name = workflow.to_owned();
        let scan = move || {
            let cache = open().filter(Cache::is_locked)?;
            Some(PrefetchedScan {
                scan: CacheScan::new(&cache, &name, |_| true),
                _cache: cache,
            })
        };
        // Without a thread the run scans by itself.
        let thread = std::thread::Builder::new()
            .name("prefetch".to_owned())
            .spawn(scan)
            .ok();
        Self {
            folder: folder.to_path_buf(),
            workflow: workflow.to_owned(),
            thread: Arc::new(Mutex::new(thread)),
        }
    }

    /// Waits for the scan, if it is of this cache and this workflow. Otherwise it is of no use, and
    /// its cache is closed as soon as it is done.
    pub(crate) fn take(&self, folder: &Path, workflow: &str) -> Option<PrefetchedScan> {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        if self.folder != folder || self.workflow != workflow {
            return None;
        }
        thread.join().ok()?
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cache::Access;
    use crate::cache::disk::Disk;
    use crate::cache::index::IndexKind;

    fn open(folder: &Path, access: Access) -> Option<Cache> {
        let disk = Disk::default();
        let opened = Cache::open(folder, IndexKind::Memory, disk, access, |_| false);
        Some(opened.ok()?.cache)
    }

    /// A scan of the workflow `w` in a new cache.
    fn begin_scan() -> (tempfile::TempDir, Prefetch) {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), Access::Run).unwrap());
        let path = folder.path().to_path_buf();
        let prefetch = Prefetch::begin(folder.path(), "w", move || open(&path, Access::Read));
        (folder, prefetch)
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(60), "timed out");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn nothing_is_evicted_between_a_scan_and_its_run() {
        let (folder, prefetch) = begin_scan();
        let is_finished = || {
            let thread = prefetch.thread.lock().unwrap();
            thread.as_ref().unwrap().is_finished()
        };
        wait_until(is_finished);
        let can_evict = || open(folder.path(), Access::Exclusive).is_some();
        assert!(!can_evict());
        let scan = prefetch.take(folder.path(), "w");
        assert!(scan.is_some() && !can_evict());
        drop(scan);
        assert!(can_evict());
    }

    #[test]
    fn a_scan_of_another_workflow_closes_its_cache() {
        let (folder, prefetch) = begin_scan();
        assert!(prefetch.take(folder.path(), "another").is_none());
        wait_until(|| open(folder.path(), Access::Exclusive).is_some());
    }
}
