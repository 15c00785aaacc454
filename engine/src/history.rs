//! What earlier runs did, read from their event logs and records: files only, never the index, also
//! while a run is going.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::cache::damaged::Damaged;
use crate::cache::disk::Disk;
use crate::cache::ledger::{Ledger, StageResult};
use crate::cache::lock::Holder;
use crate::cache::objects::{ObjectError, Objects};
use crate::cache::records::{Record, Records};
use crate::cache::session::at_work;
use crate::digest::Digest;
use crate::event::{Event, LOG_NAME, Logged, StageEnd};

/// Reads a cache folder without locking it and without writing to it.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    records: Records,
    objects: Objects,
}

/// A run, as its event log tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct RunLog {
    /// Its id.
    pub run: String,
    /// What happened, in order. The last line of a log that is being written may be missing.
    pub events: Vec<Logged>,
}

impl Reader {
    /// A reader of a cache folder; one that does not exist reads as empty.
    pub fn new(folder: &Path) -> Self {
        let (disk, damaged) = (Disk::default(), Damaged::untouched(folder));
        Self {
            folder: folder.to_path_buf(),
            records: Records::new(folder, disk.clone(), damaged.clone()),
            objects: Objects::new(folder, disk, damaged),
        }
    }

    /// The ids of all runs, oldest first.
    ///
    /// # Errors
    /// What listing the folder gives; a folder that is not there lists as empty.
    pub fn runs(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.folder.join("runs")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut runs = Vec::new();
        for entry in entries {
            runs.extend(entry?.file_name().into_string().ok());
        }
        runs.sort();
        Ok(runs)
    }

    /// The log of a run. One that was killed before it wrote anything has no events.
    ///
    /// # Errors
    /// What reading the file gives.
    pub fn log(&self, run: &str) -> io::Result<RunLog> {
        let path = self.log_path(run);
        let text = match fs::read_to_string(&path) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && path.parent().is_some_and(Path::is_dir) =>
            {
                String::new()
            }
            text => text?,
        };
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

    /// Whether collecting leaves the results of a run alone.
    pub fn is_pinned(&self, run: &str) -> bool {
        self.folder.join("runs").join(run).join(PIN_NAME).is_file()
    }

    /// The record of a key that was removed to make room, and when it was.
    pub fn evicted(&self, key: &Digest) -> Option<(Record, SystemTime)> {
        self.records.evicted(key)
    }

    /// The record of a key.
    pub fn record(&self, key: &Digest) -> Option<Record> {
        self.records.get(key)
    }

    /// Whether the record of a key is there with everything that it names. Bytes are not looked at.
    pub fn is_whole(&self, key: &Digest) -> bool {
        let there = |record: Record| record.needs().all(|object| self.objects.contains(object));
        self.record(key).is_some_and(there)
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn object(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        self.objects.get(digest)
    }

    /// The processes that are at work in the cache, the longest one first. On file systems without
    /// locks nobody is seen.
    pub fn at_work(&self) -> Vec<Holder> {
        at_work(&self.folder)
    }

    /// What every stage of a workflow last came to.
    pub fn ledger(&self, workflow: &str) -> Ledger {
        Ledger::read(&self.folder, workflow)
    }

    /// The newest record of every stage of a workflow that is still there, by the stage's name.
    pub fn last_records(&self, workflow: &str) -> BTreeMap<String, Record> {
        let ledger = self.ledger(workflow);
        let record = |(name, last): (&str, &Arc<StageResult>)| {
            Some((name.to_owned(), self.record(&last.key)?))
        };
        ledger.iter().filter_map(record).collect()
    }
}

/// The file that pins a run, in its folder.
pub(crate) const PIN_NAME: &str = "pinned";

impl RunLog {
    /// The name of the workflow that ran.
    pub fn workflow(&self) -> Option<&str> {
        self.events.iter().find_map(|logged| match &logged.event {
            Event::RunStarted { workflow, .. } => Some(workflow.as_str()),
            _ => None,
        })
    }

    /// How each stage ended, by name.
    pub fn ends(&self) -> BTreeMap<&str, &StageEnd> {
        let end = |logged: &Logged| matches!(logged.event, Event::StageFinished(_));
        let ends =
            self.events
                .iter()
                .filter(|logged| end(logged))
                .filter_map(|logged| match &logged.event {
                    Event::StageFinished(end) => Some((&*end.stage, end.as_ref())),
                    _ => None,
                });
        ends.collect()
    }
}
