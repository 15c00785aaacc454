//! Verifies and repairs a cache. Corrupt files are moved to `corrupt/`, never deleted; the next
//! run, or [`repair`], recomputes the results that need them, and nothing else.
//!
//! [`repair`]: crate::Engine::repair

mod report;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cache::Opened;
use crate::cache::index::IndexKind;
use crate::cache::lock::Holder;
use crate::digest::Digest;
use crate::event::{Listener, Status};
use crate::workflow::Workflow;
use crate::{Engine, EngineError, RunOptions};

pub use self::report::{AffectedResult, Corruption, CorruptionKind, RepairReport, VerifyReport};

/// How much content is read. Every level reads all records and checks that what they refer to
/// exists. Every level reads the content of files that were modified after their record was
/// written, and of those whose length is not the one that they say themselves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum VerifyLevel {
    /// No other content of objects, groups and checkpoints.
    Quick,
    /// The content of a random share of them, from 0 to 1.
    Subset(f64),
    /// All content.
    Full,
}

impl Engine {
    /// Verifies the cache and moves corrupt files to `corrupt/`. Runs may work at the same time. In
    /// a cache that cannot be written, everything is left where it is.
    ///
    /// # Errors
    /// [`EngineError`] when the cache cannot be opened.
    pub fn verify(
        &self,
        level: VerifyLevel,
        options: &RunOptions,
    ) -> Result<VerifyReport, EngineError> {
        let keep_waiting = |_: &Holder| !options.no_wait && !options.stop.is_requested();
        self.verify_while(level, keep_waiting)
    }

    /// The same. While gc has the cache, it waits as long as `keep_waiting` returns true.
    ///
    /// # Errors
    /// As [`Engine::verify`].
    pub fn verify_while(
        &self,
        level: VerifyLevel,
        keep_waiting: impl FnMut(&Holder) -> bool,
    ) -> Result<VerifyReport, EngineError> {
        if !self.has_cache()? {
            return Ok(VerifyReport::default());
        }
        let Opened { cache, notes } = self.open_cache(keep_waiting)?;
        let mut report = scan::scan(&cache, level);
        report.notes = [notes, cache.take_notes()].concat();
        // Say why the index was not checked, unless a note above does.
        if self.config.index == IndexKind::Sled
            && level != VerifyLevel::Quick
            && !report.index
            && report.notes.is_empty()
        {
            let why = if cache.is_writable() {
                "another process has it open"
            } else {
                "the cache cannot be written"
            };
            report
                .notes
                .push(format!("the index was not checked: {why}"));
        }
        self.name_affected(&mut report);
        Ok(report)
    }

    /// Fills in the stages of corrupt records, which do not say it themselves, from the event logs.
    fn name_affected(&self, report: &mut VerifyReport) {
        let mut unnamed: Vec<&mut AffectedResult> = report
            .corruptions
            .iter_mut()
            .flat_map(|corruption| &mut corruption.affected)
            .filter(|affected| affected.stage.is_empty())
            .collect();
        if unnamed.is_empty() {
            return;
        }
        let keys: BTreeSet<Digest> = unnamed.iter().map(|affected| affected.key).collect();
        let mut names: BTreeMap<Digest, String> = BTreeMap::new();
        let reader = self.reader();
        for run in reader.runs().unwrap_or_default() {
            let Ok(log) = reader.log(&run) else { continue };
            for (stage, end) in log.ends() {
                if let Some(key) = end.key.filter(|key| keys.contains(key)) {
                    names.insert(key, stage.to_owned());
                }
            }
        }
        for affected in &mut unnamed {
            affected.stage = names.get(&affected.key).cloned().unwrap_or_default();
        }
    }

    /// Recomputes the results that a verification found incomplete, as far as this workflow has
    /// their stages, and nothing else.
    ///
    /// # Errors
    /// [`EngineError`] when the run cannot begin.
    pub fn repair(
        &self,
        report: &VerifyReport,
        workflow: &Workflow,
        options: &RunOptions,
        listeners: &mut [&mut dyn Listener],
    ) -> Result<RepairReport, EngineError> {
        let affected = report.affected();
        let in_workflow = |stage: &str| workflow.graph.find(stage).is_some();
        let mut targets: Vec<String> = affected
            .iter()
            .map(|affected| affected.stage.clone())
            .filter(|stage| in_workflow(stage))
            .collect();
        targets.dedup();
        let mut failures = BTreeMap::new();
        if !targets.is_empty() {
            let options = RunOptions {
                targets,
                keep_going: true,
                prefetch: None,
                repair: Some(Arc::new(affected.iter().map(|result| result.key).collect())),
                ..options.clone()
            };
            let summary = self.run(workflow, &options, listeners)?;
            for end in &summary.stages {
                if let (Status::Failed, Some(error)) = (end.status, &end.error) {
                    failures.insert(end.stage.to_string(), error.what.clone());
                }
            }
        }
        let reader = self.reader();
        let mut repaired = RepairReport::default();
        for affected in affected {
            // By key, not by whether its stage ran: a stage that has changed since ran for another
            // key.
            if reader.is_whole(&affected.key) {
                repaired.restored.push(affected);
                continue;
            }
            let why = match failures.get(&affected.stage) {
                Some(what) => what.clone(),
                None if !in_workflow(&affected.stage) => {
                    "the workflow has no such stage".to_owned()
                }
                None => "the workflow, its params or its files have changed since".to_owned(),
            };
            repaired.failed.push((affected, why));
        }
        Ok(repaired)
    }
}
