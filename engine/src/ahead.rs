//! What the last run of a workflow came to, and what of that is still there.
//!
//! One look at each file before a run begins is what makes a run without work fast. It needs the workflow's name and not its
//! text: [`Engine::look_ahead`](crate::Engine::look_ahead) has it done while the text is still parsed and checked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::cache::ledger::{Finished, Ledger};
use crate::digest::Digest;

/// As many results are looked at first. If that takes longer than from memory, a disk or a server is asked, and so many threads
/// wait for it together; else they would only take the cores from whoever parses meanwhile.
const SAMPLE: usize = 256;
const WARM: Duration = Duration::from_millis(5);
const THREADS: usize = 8;

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The last result of every stage.
    pub(crate) ledger: Ledger,
    /// Those whose files are all there, by key.
    pub(crate) there: HashMap<Digest, Arc<Finished>>,
}

impl Found {
    /// Looks. Of the stages of the ledger only those `wanted` by name are looked at.
    pub(crate) fn look(cache: &Cache, workflow: &str, wanted: impl Fn(&str) -> bool) -> Self {
        let ledger = Ledger::read(cache.folder(), workflow);
        let told: Vec<&Arc<Finished>> = ledger.all().filter(|(name, _)| wanted(name)).map(|(_, last)| last).collect();
        let there = still_there(&told, cache);
        Self { ledger, there }
    }
}

/// The results whose files are all there, by key.
fn still_there(told: &[&Arc<Finished>], cache: &Cache) -> HashMap<Digest, Arc<Finished>> {
    let Some(presence) = cache.presence() else { return HashMap::new() };
    let there = |finished: &&Arc<Finished>| presence.has(finished).then(|| (finished.key, Arc::clone(finished)));
    let mut found = HashMap::with_capacity(told.len());
    let (first, rest) = told.split_at(told.len().min(SAMPLE));
    let started = Instant::now();
    found.extend(first.iter().filter_map(there));
    if started.elapsed() < WARM {
        found.extend(rest.iter().filter_map(there));
        return found;
    }
    std::thread::scope(|scope| {
        let look = |part: &[&Arc<Finished>]| part.iter().filter_map(there).collect::<Vec<_>>();
        let parts = rest.chunks(rest.len().div_ceil(THREADS).max(1)).map(|part| scope.spawn(move || look(part)));
        let parts: Vec<_> = parts.collect();
        found.extend(parts.into_iter().flat_map(|part| part.join().unwrap_or_default()));
    });
    found
}

/// A look that was begun before its run. Whoever takes it first has it.
#[derive(Clone, Debug)]
pub struct Ahead {
    folder: PathBuf,
    workflow: String,
    thread: Arc<Mutex<Option<JoinHandle<Option<Looked>>>>>,
}

/// What was found, and the cache it was found in: as long as that is held nobody removes anything.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) found: Found,
    _cache: Cache,
}

impl Ahead {
    /// Begins to look at a cache that is opened by `open`, if somebody's work in it does not have to be waited for.
    pub(crate) fn begin(folder: &Path, workflow: &str, open: impl FnOnce() -> Option<Cache> + Send + 'static) -> Self {
        let name = workflow.to_owned();
        let look = move || {
            let cache = open().filter(Cache::is_held)?;
            Some(Looked { found: Found::look(&cache, &name, |_| true), _cache: cache })
        };
        // Without a thread the run looks by itself.
        let thread = std::thread::Builder::new().name("ahead".to_owned()).spawn(look).ok();
        Self { folder: folder.to_path_buf(), workflow: workflow.to_owned(), thread: Arc::new(Mutex::new(thread)) }
    }

    /// What was found, if it is about this cache and this workflow.
    pub(crate) fn take(&self, folder: &Path, workflow: &str) -> Option<Looked> {
        if self.folder != folder || self.workflow != workflow {
            return None;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        thread.join().ok()?
    }
}
