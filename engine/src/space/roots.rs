//! The roots of garbage collection: the results of the last runs, of pinned runs, and of exports.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::digest::Digest;
use crate::event::Event;
use crate::history::CacheReader;

/// What is not collected.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Keys of stages whose results stay.
    pub(super) keys: BTreeSet<Digest>,
    /// Runs whose logs stay.
    pub(super) runs: BTreeSet<String>,
}

impl Roots {
    /// Reads the event logs. Of every workflow the last `keep_runs` runs are roots.
    pub(super) fn find(reader: &CacheReader, keep_runs: usize) -> io::Result<Self> {
        let mut roots = Self::default();
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut exported: BTreeSet<String> = BTreeSet::new();
        for run in reader.runs()?.into_iter().rev() {
            // A run whose log is gone or cannot be read is no root.
            let Ok(log) = reader.log(&run) else { continue };
            let workflow = log.workflow().unwrap_or_default().to_owned();
            let count = kept.entry(workflow).or_default();
            *count += 1;
            let ends = log.ends();
            if *count <= keep_runs || reader.is_pinned(&run) {
                roots.keys.extend(ends.values().filter_map(|end| end.key));
                roots.runs.insert(run.clone());
            }
            // Runs come newest first, so the first that exported to a path is the one whose result
            // is there.
            for logged in &log.events {
                let Event::Exported { stage, path, .. } = &logged.event else {
                    continue;
                };
                if exported.insert(path.clone()) {
                    let end = ends.get(&**stage);
                    roots.keys.extend(end.and_then(|end| end.key));
                    roots.runs.insert(run.clone());
                }
            }
        }
        Ok(roots)
    }
}
