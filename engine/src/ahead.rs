//! What the last run of a workflow came to, and what of that is still there.
//!
//! One look at each file before a run begins is what makes a run without work fast. It needs the
//! workflow's name and not its text: [`Engine::prefetch`](crate::Engine::prefetch) has it done
//! while the text is still parsed and checked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::cache::ledger::{Ledger, StageResult};
use crate::digest::Digest;
use crate::known::Known;

/// As many results are looked at first. If that takes longer than from memory, a disk or a server
/// is asked, and so many threads wait for it together; else they would only take the cores from
/// whoever parses meanwhile.
const SAMPLE: usize = 256;
const WARM: Duration = Duration::from_millis(5);
const THREADS: usize = 8;

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The last result of every stage.
    pub(crate) ledger: Ledger,
    /// Those whose files are all there, by key.
    pub(crate) there: Known,
}

impl Found {
    /// Looks. Of the stages of the ledger only those `wanted` by name are looked at.
    pub(crate) fn look(cache: &Cache, workflow: &str, wanted: impl Fn(&str) -> bool) -> Self {
        let ledger = Ledger::read(cache.folder(), workflow);
        let told: Vec<&Arc<StageResult>> = ledger
            .all()
            .filter(|(name, _)| wanted(name))
            .map(|(_, last)| last)
            .collect();
        let there = still_there(&told, cache);
        Self { ledger, there }
    }
}

/// The results whose files are all there, by key.
fn still_there(told: &[&Arc<StageResult>], cache: &Cache) -> Known {
    let Some(presence) = cache.presence() else {
        return Known::default();
    };
    let there = |finished: &&Arc<StageResult>| presence.has(finished).then(|| Arc::clone(finished));
    let mut found = Told::for_at_most(told.len());
    let (first, rest) = told.split_at(told.len().min(SAMPLE));
    let started = Instant::now();
    found.add(first.iter().filter_map(there));
    if started.elapsed() < WARM {
        found.add(rest.iter().filter_map(there));
        return found.undisputed();
    }
    std::thread::scope(|scope| {
        let look = |part: &[&Arc<StageResult>]| part.iter().filter_map(there).collect::<Vec<_>>();
        let parts = rest
            .chunks(rest.len().div_ceil(THREADS).max(1))
            .map(|part| scope.spawn(move || look(part)));
        let parts: Vec<_> = parts.collect();
        parts
            .into_iter()
            .for_each(|part| found.add(part.join().unwrap_or_default()));
    });
    found.undisputed()
}

/// The results that are found, and the keys of which a ledger tells two results: the record has to
/// be asked which of them it is.
struct Told {
    known: Known,
    disputed: Vec<Digest>,
}

impl Told {
    fn for_at_most(count: usize) -> Self {
        Self {
            known: Known::for_at_most(count),
            disputed: Vec::new(),
        }
    }

    fn add(&mut self, results: impl IntoIterator<Item = Arc<StageResult>>) {
        for result in results {
            let (key, output) = (result.key, result.output);
            if self
                .known
                .insert(result)
                .is_some_and(|before| before.output != output)
            {
                self.disputed.push(key);
            }
        }
    }

    fn undisputed(mut self) -> Known {
        self.disputed.iter().for_each(|key| self.known.remove(key));
        self.known
    }
}

/// A look that was begun before its run. Whoever takes it first has it.
#[derive(Clone, Debug)]
pub struct Prefetch {
    folder: PathBuf,
    workflow: String,
    thread: Arc<Mutex<Option<JoinHandle<Option<Looked>>>>>,
}

/// What was found, and the cache it was found in: as long as that is held nobody makes room in it.
/// What is damaged may be moved out of the way all the same; whoever reads it notices.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) found: Found,
    _cache: Cache,
}

impl Prefetch {
    /// Begins to look at a cache that is opened by `open`, if somebody's work in it does not have
    /// to be waited for.
    pub(crate) fn begin(
        folder: &Path,
        workflow: &str,
        open: impl FnOnce() -> Option<Cache> + Send + 'static,
    ) -> Self {
        let name = workflow.to_owned();
        let look = move || {
            let cache = open().filter(Cache::is_held)?;
            Some(Looked {
                found: Found::look(&cache, &name, |_| true),
                _cache: cache,
            })
        };
        // Without a thread the run looks by itself.
        let thread = std::thread::Builder::new()
            .name("ahead".to_owned())
            .spawn(look)
            .ok();
        Self {
            folder: folder.to_path_buf(),
            workflow: workflow.to_owned(),
            thread: Arc::new(Mutex::new(thread)),
        }
    }

    /// What was found, if it is about this cache and this workflow; else it is of no use to
    /// anybody, and its cache is let go.
    pub(crate) fn take(&self, folder: &Path, workflow: &str) -> Option<Looked> {
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
    use super::*;
    use crate::cache::Access;
    use crate::cache::disk::Disk;
    use crate::cache::index::IndexKind;

    fn open(folder: &Path, access: Access) -> Option<Cache> {
        Some(
            Cache::open(folder, IndexKind::Memory, Disk::default(), access, |_| {
                false
            })
            .ok()?
            .cache,
        )
    }

    /// A look at the workflow `w` in a new cache.
    fn begun() -> (tempfile::TempDir, Prefetch) {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), Access::Run).unwrap());
        let read = folder.path().to_path_buf();
        let ahead = Prefetch::begin(folder.path(), "w", move || open(&read, Access::Read));
        (folder, ahead)
    }

    fn until(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it never happens"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn nobody_makes_room_between_a_look_and_its_run() {
        let (folder, ahead) = begun();
        until(|| ahead.thread.lock().unwrap().as_ref().unwrap().is_finished());
        let alone = || open(folder.path(), Access::Exclusive).is_some();
        assert!(!alone());
        let looked = ahead.take(folder.path(), "w");
        assert!(looked.is_some() && !alone());
        drop(looked);
        assert!(alone());
    }

    #[test]
    fn a_look_at_something_else_lets_its_cache_go() {
        let (folder, ahead) = begun();
        assert!(ahead.take(folder.path(), "another").is_none());
        until(|| open(folder.path(), Access::Exclusive).is_some());
    }

    #[test]
    fn of_two_results_of_a_key_none_is_believed() {
        let finished = |key: &[u8], output: &[u8]| {
            Arc::new(StageResult::bare(Digest::of(key), Digest::of(output)))
        };
        let mut found = Told::for_at_most(4);
        found.add([
            finished(b"a", b"1"),
            finished(b"b", b"1"),
            finished(b"b", b"1"),
        ]);
        found.add([finished(b"a", b"2")]);
        let found = found.undisputed();
        assert_eq!(found.get(&Digest::of(b"a")), None);
        assert_eq!(found.get(&Digest::of(b"b")), Some(&finished(b"b", b"1")));
    }
}
