//! The roots of garbage collection: the results of the last runs, of pinned runs, and of exports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::cache::CacheError;
use crate::digest::Digest;
use crate::event::{Event, StageEnd};
use crate::history::CacheReader;

/// What is not collected.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Keys of stages whose results stay.
    pub(super) keys: BTreeSet<Digest>,
    /// Runs whose logs stay.
    pub(super) runs: BTreeSet<String>,
    /// Whether the newest run of a workflow was killed. Which checkpoints its next run resumes from
    /// is not known then: the log of a killed run has no keys of what it was computing.
    pub(super) was_killed: bool,
}

impl Roots {
    /// Reads the event logs. Of every workflow the last `keep_runs` runs are roots.
    ///
    /// # Errors
    /// [`CacheError::Io`] when a log cannot be read: what its run exported is not known then.
    pub(super) fn find(reader: &CacheReader, keep_runs: usize) -> Result<Self, CacheError> {
        let io_error = |path: PathBuf| move |source| CacheError::Io { path, source };
        let mut roots = Self::default();
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut exported: BTreeSet<(String, String)> = BTreeSet::new();
        let runs = reader.runs().map_err(io_error(reader.runs_folder()))?;
        for run in runs.into_iter().rev() {
            let log = reader.log(&run).map_err(io_error(reader.log_path(&run)))?;
            let workflow = log.workflow().unwrap_or_default().to_owned();
            let count = kept.entry(workflow.clone()).or_default();
            *count += 1;
            if *count == 1 && log.workflow().is_some() && !log.is_finished() {
                roots.was_killed = true;
            }
            let ends = log.ends();
            if *count <= keep_runs || reader.is_pinned(&run) {
                roots.keys.extend(ends.values().filter_map(|end| end.key));
                roots.runs.insert(run.clone());
            }
            // Runs come newest first, so the first that exported to a path is the one whose result
            // is there. Paths are relative to their workflow, which may be in another folder.
            for logged in &log.events {
                let Event::Exported { stage, path, .. } = &logged.event else {
                    continue;
                };
                if exported.insert((workflow.clone(), path.clone())) {
                    roots.keys.extend(keys_of_export(&ends, stage));
                    roots.runs.insert(run.clone());
                }
            }
        }
        Ok(roots)
    }
}

/// The key of an exported stage. An export may name a stage by another name than the stage ends
/// with; then all stages of the run are kept.
fn keys_of_export(ends: &BTreeMap<&str, &StageEnd>, stage: &str) -> Vec<Digest> {
    match ends.get(stage) {
        Some(end) => end.key.into_iter().collect(),
        None => ends.values().filter_map(|end| end.key).collect(),
    }
}
