//! The results of a workflow's last runs that are still in the cache.

use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::cache::disk::DiskError;
use crate::cache::ledger::Ledger;
use crate::cache::stage_result::StageResult;
use crate::digest::Digest;
use crate::result_map::ResultMap;

/// How many results are checked first, on this thread.
const SAMPLE: usize = 256;
/// If the sample takes longer, a disk or a server is asked, and many threads wait for it together.
/// Otherwise the files' metadata is in memory, and more threads would only take cores from whoever
/// parses meanwhile.
const SAMPLE_FROM_MEMORY: Duration = Duration::from_millis(5);
const THREADS: usize = 8;

/// What a run of a workflow finds in the cache.
#[derive(Debug)]
pub(crate) struct CacheScan {
    pub(crate) ledger: Ledger,
    /// Results of the ledger whose files are all there.
    pub(crate) results: ResultMap,
    /// Why the ledger could not be read, though there is one. It is empty then.
    pub(crate) ledger_error: Option<DiskError>,
}

impl CacheScan {
    /// Reads the ledger and checks the results of those of its stages that are wanted by name.
    pub(crate) fn new(cache: &Cache, workflow: &str, is_wanted: impl Fn(&str) -> bool) -> Self {
        let (ledger, ledger_error) = match Ledger::read(cache.disk(), cache.folder(), workflow) {
            Ok(ledger) => (ledger, None),
            Err(error) => (Ledger::default(), Some(error)),
        };
        let candidates: Vec<&Arc<StageResult>> = ledger
            .all()
            .filter(|(name, _)| is_wanted(name))
            .map(|(_, result)| result)
            .collect();
        let results = existing_results(&candidates, cache);
        Self {
            ledger,
            results,
            ledger_error,
        }
    }
}

fn existing_results(candidates: &[&Arc<StageResult>], cache: &Cache) -> ResultMap {
    let Some(presence) = cache.existence_check() else {
        return ResultMap::default();
    };
    let existing = |result: &&Arc<StageResult>| presence.has(result).then(|| Arc::clone(result));
    let mut scan = ScanBuilder::with_capacity(candidates.len());
    let (sample, rest) = candidates.split_at(candidates.len().min(SAMPLE));
    let started = Instant::now();
    scan.add(sample.iter().filter_map(existing));
    if started.elapsed() < SAMPLE_FROM_MEMORY {
        scan.add(rest.iter().filter_map(existing));
        return scan.finish();
    }
    std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(THREADS);
        for part in rest.chunks(rest.len().div_ceil(THREADS).max(1)) {
            let check = move || part.iter().filter_map(existing).collect::<Vec<_>>();
            match Builder::new().spawn_scoped(scope, check) {
                Ok(thread) => threads.push(thread),
                Err(_) => scan.add(check()),
            }
        }
        for thread in threads {
            // What a thread that panicked would have found is looked up record by record.
            scan.add(thread.join().unwrap_or_default());
        }
    });
    scan.finish()
}

/// Collects results, and the keys for which the ledger has two different ones: only the record says
/// which of them it is.
struct ScanBuilder {
    results: ResultMap,
    ambiguous: Vec<Digest>,
}

impl ScanBuilder {
    fn with_capacity(count: usize) -> Self {
        Self {
            results: ResultMap::with_capacity(count),
            ambiguous: Vec::new(),
        }
    }

    fn add(&mut self, results: impl IntoIterator<Item = Arc<StageResult>>) {
        for result in results {
            let (key, output) = (result.key, result.output);
            let before = self.results.insert(result);
            if before.is_some_and(|before| before.output != output) {
                self.ambiguous.push(key);
            }
        }
    }

    fn finish(mut self) -> ResultMap {
        for key in &self.ambiguous {
            self.results.remove(key);
        }
        self.results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_two_results_is_looked_up_in_its_record() {
        let result = |key: &[u8], output: &[u8]| {
            Arc::new(StageResult::bare(Digest::of(key), Digest::of(output)))
        };
        let mut scan = ScanBuilder::with_capacity(4);
        scan.add([result(b"a", b"1"), result(b"b", b"1"), result(b"b", b"1")]);
        scan.add([result(b"a", b"2")]);
        let results = scan.finish();
        assert_eq!(results.get(&Digest::of(b"a")), None);
        assert_eq!(results.get(&Digest::of(b"b")), Some(&result(b"b", b"1")));
    }
}
