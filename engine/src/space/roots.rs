//! What must stay: the results of the last runs, of pinned runs, and what was exported.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::digest::Digest;
use crate::event::Event;
use crate::history::Reader;

/// What collecting leaves alone.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Keys of stages.
    pub(super) keys: BTreeSet<Digest>,
    /// Runs whose logs stay.
    pub(super) runs: BTreeSet<String>,
}

impl Roots {
    /// Walks the logs, newest first. Of every workflow the last `keep_runs` runs count.
    pub(super) fn find(reader: &Reader, keep_runs: usize) -> io::Result<Self> {
        let mut roots = Self::default();
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut exported: BTreeSet<String> = BTreeSet::new();
        for run in reader.runs()?.into_iter().rev() {
            // A run whose log is gone or cannot be read says nothing.
            let Ok(log) = reader.log(&run) else { continue };
            let count = kept
                .entry(log.workflow().unwrap_or_default().to_owned())
                .or_default();
            *count += 1;
            let keep = *count <= keep_runs || reader.is_pinned(&run);
            let ends = log.ends();
            if keep {
                roots.keys.extend(ends.values().filter_map(|end| end.key));
                roots.runs.insert(run.clone());
            }
            // The newest run that wrote a place is the one whose result is there.
            for logged in &log.events {
                let Event::Exported { stage, path, .. } = &logged.event else {
                    continue;
                };
                if exported.insert(path.clone()) {
                    roots
                        .keys
                        .extend(ends.get(&**stage).and_then(|end| end.key));
                    roots.runs.insert(run.clone());
                }
            }
        }
        Ok(roots)
    }
}
