//! Looks a cache over for damage. What is wrong is moved to `damaged/`, never deleted; the next
//! run, or [`repair`], makes it again, just that far.
//!
//! [`repair`]: crate::Engine::repair

mod inspect;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::index::IndexKind;
use crate::cache::lock::Holder;
use crate::cache::{Access, Cache, CacheError, Opened};
use crate::digest::Digest;
use crate::event::{Listener, StageEnd};
use crate::workflow::Workflow;
use crate::{Engine, EngineError, RunOptions};

/// How closely to look. Every level reads all records and asks whether everything that they name is
/// there. It reads the content of what was changed since its record was written, and of what is not
/// as long as it says at its beginning.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Level {
    /// No other content of objects, groups and checkpoints is read.
    Quick,
    /// The content of this share of them is read, from 0 to 1: others every time.
    Subset(f64),
    /// All content is read.
    Full,
}

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Its bytes are not those that its name says.
    Bytes,
    /// It has no bytes.
    Empty,
    /// It is a folder, or something else that is no file.
    NotAFile,
    /// It is not there, and a record needs it.
    Missing,
    /// It cannot be read.
    Unreadable(String),
    /// A record or another small file that does not match its checksum, or says something else than
    /// its name.
    Record(String),
    /// A checkpoint that is not whole.
    Checkpoint(String),
    /// The index could not be opened, or does not say what the groups say.
    Index(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Bytes => f.write_str("its bytes are not those that its name says"),
            Wrong::Empty => f.write_str("it is empty"),
            Wrong::NotAFile => f.write_str("it is not a file"),
            Wrong::Missing => f.write_str("it is missing"),
            Wrong::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Wrong::Record(detail) | Wrong::Index(detail) => f.write_str(detail),
            Wrong::Checkpoint(detail) => write!(f, "the checkpoint is not whole: {detail}"),
        }
    }
}

/// A result that is not whole any more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Affected {
    /// The stage, by the name it had when it ran first.
    pub stage: String,
    /// Its key.
    pub key: Digest,
}

/// A damaged file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where it was.
    pub path: PathBuf,
    /// What is wrong.
    pub wrong: Wrong,
    /// Where it is now; nothing when there was nothing to move, or the cache cannot be written.
    pub aside: Option<PathBuf>,
    /// The results that need it.
    pub affected: Vec<Affected>,
}

/// What a look found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Records read.
    pub records: u64,
    /// Objects there are.
    pub objects: u64,
    /// Groups of results of units, and of digests of files.
    pub groups: u64,
    /// Checkpoints of stages that are not done, and final states that longer trainings go on from.
    pub checkpoints: u64,
    /// Bytes whose digests were checked.
    pub bytes: u64,
    /// Objects that no record needs: not damage, but space that can be had back.
    pub unneeded: u64,
    /// Files that have no business where they are: not damage either.
    pub strangers: Vec<PathBuf>,
    /// Records that another version of the program wrote.
    pub other_versions: u64,
    /// Whether the index was looked at; a quick look does not, and nobody can while another process
    /// has it open.
    pub index: bool,
    /// What a user should hear about the cache besides: that the index was built again, or why it
    /// was not looked at.
    pub notes: Vec<String>,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

impl Report {
    /// All results that are not whole any more, each once.
    pub fn affected(&self) -> Vec<Affected> {
        let mut affected: Vec<Affected> = self
            .damage
            .iter()
            .flat_map(|damage| damage.affected.clone())
            .collect();
        affected.sort();
        affected.dedup();
        affected
    }
}

/// What became of the results that were not whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// They are again what they were.
    pub whole: Vec<Affected>,
    /// They are not, and why.
    pub lost: Vec<(Affected, String)>,
}

impl Engine {
    /// Looks the cache over and moves what is damaged to `damaged/`. It works beside runs; in a
    /// folder that cannot be written everything is left where it is.
    ///
    /// # Errors
    /// [`EngineError`] when the cache cannot be opened.
    pub fn verify(&self, level: Level, options: &RunOptions) -> Result<Report, EngineError> {
        let open = |access| {
            let going_on = |_: &Holder| !options.no_wait && !options.stop.is_requested();
            Cache::open(
                &self.config.cache,
                self.config.index,
                self.disk.clone(),
                access,
                going_on,
            )
        };
        let opened = match open(Access::Run) {
            Err(CacheError::Disk(error)) if cannot_write(&error.source) => open(Access::Read),
            Err(CacheError::Io { source, .. }) if cannot_write(&source) => open(Access::Read),
            opened => opened,
        };
        let Opened { cache, notes } = opened?;
        let mut report = inspect::inspect(&cache, level);
        report.notes = [notes, cache.take_notes()].concat();
        if self.config.index == IndexKind::Sled
            && level != Level::Quick
            && !report.index
            && report.notes.is_empty()
        {
            let why = if cache.is_written() {
                "another process has it open"
            } else {
                "the cache cannot be written"
            };
            report
                .notes
                .push(format!("the index was not looked at: {why}"));
        }
        self.name_affected(&mut report);
        Ok(report)
    }

    /// A record that cannot be read does not say which stage it was: the event logs do.
    fn name_affected(&self, report: &mut Report) {
        let mut unnamed: BTreeMap<Digest, String> = BTreeMap::new();
        let affected = |report: &mut Report, act: &mut dyn FnMut(&mut Affected)| {
            let affected = report
                .damage
                .iter_mut()
                .flat_map(|damage| &mut damage.affected);
            affected
                .filter(|affected| affected.stage.is_empty())
                .for_each(act);
        };
        affected(report, &mut |affected| {
            drop(unnamed.insert(affected.key, String::new()))
        });
        if unnamed.is_empty() {
            return;
        }
        let reader = self.reader();
        for run in reader.runs().unwrap_or_default() {
            let Ok(log) = reader.log(&run) else { continue };
            for (stage, end) in log.ends() {
                if let Some(name) = end.key.and_then(|key| unnamed.get_mut(&key)) {
                    stage.clone_into(name);
                }
            }
        }
        affected(report, &mut |affected| {
            affected.stage = unnamed.get(&affected.key).cloned().unwrap_or_default();
        });
    }

    /// Makes again what a look found to be not whole any more, as far as this workflow makes it,
    /// and nothing else.
    ///
    /// # Errors
    /// [`EngineError`] when the run cannot begin.
    pub fn repair(
        &self,
        report: &Report,
        workflow: &Workflow,
        options: &RunOptions,
        listeners: &mut [&mut dyn Listener],
    ) -> Result<Repaired, EngineError> {
        let affected = report.affected();
        let makes = |affected: &&Affected| workflow.graph.find(&affected.stage).is_some();
        let mut targets: Vec<String> = affected
            .iter()
            .filter(makes)
            .map(|affected| affected.stage.clone())
            .collect();
        targets.dedup();
        let mut failures = BTreeMap::new();
        if !targets.is_empty() {
            let options = RunOptions {
                targets,
                keep_going: true,
                ahead: None,
                ..options.clone()
            };
            let summary = self.run(workflow, &options, listeners)?;
            let error = |end: &Arc<StageEnd>| {
                Some((end.stage.to_string(), end.error.as_ref()?.what.clone()))
            };
            failures = summary.stages.iter().filter_map(error).collect();
        }
        let reader = self.reader();
        let mut repaired = Repaired::default();
        for affected in affected {
            if reader.is_whole(&affected.key) {
                repaired.whole.push(affected);
                continue;
            }
            let why = match failures.get(&affected.stage) {
                Some(what) => what.clone(),
                None if workflow.graph.find(&affected.stage).is_none() => {
                    "the workflow does not make it".to_owned()
                }
                None => "the workflow, its params or its files have changed since".to_owned(),
            };
            repaired.lost.push((affected, why));
        }
        Ok(repaired)
    }
}

fn cannot_write(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}
