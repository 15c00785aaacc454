//! What earlier runs did, read from their event logs and records: from files only, never from the
//! index, also during a run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache::corrupt::CorruptFolder;
use crate::cache::disk::Disk;
use crate::cache::identity::is_run_id;
use crate::cache::ledger::Ledger;
use crate::cache::lock::Holder;
use crate::cache::objects::{ObjectError, Objects};
use crate::cache::records::{Record, Records};
use crate::cache::session::active_processes;
use crate::digest::Digest;
use crate::event::{Event, LOG_NAME, LogEntry, StageEnd};

/// Reads a cache folder without locking it and without writing to it.
#[derive(Debug)]
pub struct CacheReader {
    folder: PathBuf,
    records: Records,
    objects: Objects,
    disk: Disk,
}

/// The event log of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct RunLog {
    /// The run's id.
    pub run: String,
    /// In order. The last line of a log that is being written may be missing.
    pub events: Vec<LogEntry>,
}

impl CacheReader {
    /// A folder that does not exist reads as an empty cache.
    pub fn new(folder: &Path) -> Self {
        Self::on_disk(folder, Disk::default())
    }

    /// The same on another disk: tests use one with injected faults.
    pub(crate) fn on_disk(folder: &Path, disk: Disk) -> Self {
        let damaged = CorruptFolder::read_only(folder);
        Self {
            folder: folder.to_path_buf(),
            records: Records::new(folder, disk.clone(), damaged.clone()),
            objects: Objects::new(folder, disk.clone(), damaged),
            disk,
        }
    }

    /// The ids of all runs, oldest first.
    ///
    /// # Errors
    /// As listing the folder gives; a folder that does not exist has no runs.
    pub fn runs(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list_names(&self.runs_folder());
        let mut runs = names.map_err(|error| error.source)?;
        runs.retain(|name| is_run_id(name));
        Ok(runs)
    }

    /// The log of a run. One that was killed before it wrote anything has no events.
    ///
    /// # Errors
    /// As reading the file gives.
    pub fn log(&self, run: &str) -> io::Result<RunLog> {
        let path = self.log_path(run);
        // A run creates its folder before its log.
        let has_folder = path.parent().is_some_and(Path::is_dir);
        let bytes = match self.disk.read(&path).map_err(|error| error.source)? {
            Some(bytes) => bytes,
            None if has_folder => Vec::new(),
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let text = String::from_utf8_lossy(&bytes);
        // A line that a kill truncated, or that a newer program wrote, is skipped.
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Ok(RunLog {
            run: run.to_owned(),
            events,
        })
    }

    pub(crate) fn runs_folder(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// Where the log of a run is, for readers that follow it.
    pub fn log_path(&self, run: &str) -> PathBuf {
        self.folder.join("runs").join(run).join(LOG_NAME)
    }

    /// Whether garbage collection keeps the results of a run whatever its age.
    pub fn is_pinned(&self, run: &str) -> bool {
        self.folder.join("runs").join(run).join(PIN_NAME).is_file()
    }

    /// The record of a key that was evicted, and when it was.
    pub fn evicted(&self, key: &Digest) -> Option<(Record, SystemTime)> {
        self.records.evicted(key)
    }

    /// The record of a key. One that cannot be read is not shown.
    pub fn record(&self, key: &Digest) -> Option<Record> {
        self.records.get(key).unwrap_or_else(|error| {
            tracing::warn!(%error, "a result is not shown");
            None
        })
    }

    /// Whether the record of a key is there with everything that it names. Bytes are not read.
    pub fn is_whole(&self, key: &Digest) -> bool {
        let has_objects = |record: Record| {
            record
                .referenced_objects()
                .all(|object| self.objects.contains(object).unwrap_or(false))
        };
        self.record(key).is_some_and(has_objects)
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn object(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        self.objects.get(digest)
    }

    /// The processes that work in the cache, oldest first. On file systems without locks none is
    /// seen.
    pub fn at_work(&self) -> Vec<Holder> {
        active_processes(&self.folder)
    }

    /// The last result of every stage of a workflow. A ledger that cannot be read is not shown.
    pub fn ledger(&self, workflow: &str) -> Ledger {
        Ledger::read(&self.disk, &self.folder, workflow).unwrap_or_else(|error| {
            tracing::warn!(%error, "the last results are not shown");
            Ledger::default()
        })
    }

    /// The records of the last results of a workflow's stages that are still there, by the stage's
    /// name.
    pub fn last_records(&self, workflow: &str) -> BTreeMap<String, Record> {
        let mut records = BTreeMap::new();
        for (name, last) in self.ledger(workflow).iter() {
            if let Some(record) = self.record(&last.key) {
                records.insert(name.to_owned(), record);
            }
        }
        records
    }
}

/// The file that pins a run, in its folder.
pub(crate) const PIN_NAME: &str = "pinned";

impl RunLog {
    /// The name of the workflow that ran.
    pub fn workflow(&self) -> Option<&str> {
        self.events.iter().find_map(|entry| match &entry.event {
            Event::RunStarted { workflow, .. } => Some(workflow.as_str()),
            _ => None,
        })
    }

    /// Whether it has the end of its run. A run that was killed has none.
    pub(crate) fn is_finished(&self) -> bool {
        let mut events = self.events.iter();
        events.any(|entry| matches!(entry.event, Event::RunFinished { .. }))
    }

    /// How each stage ended, by name. A stage that was rebuilt ended more than once: the last end
    /// counts.
    pub fn ends(&self) -> BTreeMap<&str, &StageEnd> {
        let mut ends = BTreeMap::new();
        for entry in &self.events {
            if let Event::StageFinished(end) = &entry.event {
                ends.insert(&*end.stage, end.as_ref());
            }
        }
        ends
    }
}
