//! What earlier runs did, read from their event logs and records: from files only, never from the
//! index, also during a run.

use std::collections::BTreeMap;
use std::fs;
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
        let (disk, damaged) = (Disk::default(), CorruptFolder::read_only(folder));
        Self {
            folder: folder.to_path_buf(),
            records: Records::new(folder, disk.clone(), damaged.clone()),
            objects: Objects::new(folder, disk, damaged),
        }
    }

    /// The ids of all runs, oldest first.
    ///
    /// # Errors
    /// As listing the folder gives; a folder that does not exist has no runs.
    pub fn runs(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.folder.join("runs")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let name = entry?.file_name().into_string().ok();
            runs.extend(name.filter(|name| is_run_id(name)));
        }
        runs.sort();
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
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_folder => String::new(),
            text => text?,
        };
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

    pub fn record(&self, key: &Digest) -> Option<Record> {
        self.records.get(key)
    }

    /// Whether the record of a key is there with everything that it names. Bytes are not read.
    pub fn is_whole(&self, key: &Digest) -> bool {
        let has_objects = |record: Record| {
            record
                .referenced_objects()
                .all(|object| self.objects.contains(object))
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

    /// The last result of every stage of a workflow.
    pub fn ledger(&self, workflow: &str) -> Ledger {
        Ledger::read(&self.folder, workflow)
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
