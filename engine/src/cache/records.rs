//! What a stage left behind: `results/aa/<key>`, one sealed JSON file a key. Its rename is the
//! commit.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::damaged::Damaged;
use super::disk::{Disk, DiskError, folder_of};
use super::objects::sharded;
use super::sealed::{self, SealError};
use crate::digest::Digest;

/// The layout of [`Record`]; a record of another version is a miss.
const VERSION: u32 = 1;

/// A finished stage. The names of its fields are the format on disk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The layout's version.
    pub version: u32,
    /// The stage's name in the workflow that ran it first; for messages.
    pub stage: String,
    /// The op.
    pub op: String,
    /// Everything the key was made of, field by field, as text: what `explain` compares.
    #[serde(rename = "preimage")]
    pub key_inputs: Vec<(String, String)>,
    /// The type of the result.
    pub ty: String,
    /// The result: an object.
    pub output: Digest,
    /// How many items the result has, where it has items.
    pub count: Option<u64>,
    /// By-products outside the result's digest, by name.
    #[serde(rename = "sides")]
    pub side_outputs: Vec<(String, Digest)>,
    /// Every object the result and its side_outputs need.
    pub objects: Vec<Digest>,
    /// Numbers about the result.
    pub metrics: Vec<(String, f64)>,
    /// What a reader should know: "17 duplicates dropped".
    pub notes: Vec<String>,
    /// Items that could not be used, with the reason.
    #[serde(rename = "quarantined")]
    pub rejected: Vec<RejectedItem>,
    /// When the stage began, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// An item that could not be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedItem {
    /// Which one.
    pub item: String,
    /// Why.
    pub reason: String,
}

/// The folder of records.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    evicted: PathBuf,
    disk: Disk,
    damaged: Damaged,
}

impl Record {
    /// The version that [`Records::put`] writes.
    pub const VERSION: u32 = VERSION;

    /// Every object that it names; some more than once.
    pub fn needs(&self) -> impl Iterator<Item = &Digest> {
        self.objects
            .iter()
            .chain(self.side_outputs.iter().map(|(_, digest)| digest))
            .chain([&self.output])
    }

    /// The record of these bytes; nothing when another version wrote them.
    pub(crate) fn open(bytes: &[u8]) -> Result<Option<Self>, SealError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match sealed::open::<Versioned>(bytes)?.version {
            VERSION => sealed::open(bytes).map(Some),
            _ => Ok(None),
        }
    }
}

impl Records {
    /// The records below `cache`.
    pub fn new(cache: &Path, disk: Disk, damaged: Damaged) -> Self {
        Self {
            folder: cache.join("results"),
            evicted: cache.join("evicted"),
            disk,
            damaged,
        }
    }

    /// The record of a key. One that cannot be read, or is of another version, is a miss: the stage
    /// runs again and writes a good one.
    pub fn get(&self, key: &Digest) -> Option<Record> {
        let path = self.place(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(_) => {
                self.damaged
                    .set_aside_quietly(&path, "a record that cannot be read");
                return None;
            }
        };
        match Record::open(&bytes) {
            Ok(record) => record,
            Err(error) => {
                self.damaged
                    .set_aside_quietly(&path, &format!("a damaged record: {error}"));
                None
            }
        }
    }

    /// Where a record is.
    pub fn place(&self, key: &Digest) -> PathBuf {
        sharded(&self.folder, key)
    }

    /// Stores records: from here on their keys are known.
    ///
    /// # Errors
    /// [`DiskError`]; some of them may be stored.
    pub fn put(&self, records: &[(Digest, &Record)]) -> Result<(), DiskError> {
        let mut files = Vec::with_capacity(records.len());
        for (key, record) in records {
            let path = self.place(key);
            if path.is_dir() {
                self.damaged.set_aside(&path)?;
            }
            files.push((path, Arc::from(sealed::seal(record))));
        }
        self.disk.write_together(&files, BTreeSet::new())
    }

    /// Whether a record is there and has bytes, whatever they are.
    pub fn contains(&self, key: &Digest) -> bool {
        fs::metadata(self.place(key)).is_ok_and(|file| file.is_file() && file.len() > 0)
    }

    /// Forgets a key, and remembers that it was removed to make room, and when.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn evict(&self, key: &Digest) -> Result<(), DiskError> {
        let (place, aside) = (self.place(key), sharded(&self.evicted, key));
        self.disk.create_folder(folder_of(&aside))?;
        self.disk.rename(&place, &aside)?;
        // The time is only for people: it is not worth a failure.
        if let Err(error) = File::open(&aside).and_then(|file| file.set_modified(SystemTime::now()))
        {
            tracing::warn!(%error, "the time of a removal could not be noted");
        }
        Ok(())
    }

    /// The record of a key that was removed to make room, and when it was.
    pub fn evicted(&self, key: &Digest) -> Option<(Record, SystemTime)> {
        let path = sharded(&self.evicted, key);
        let record = Record::open(&fs::read(&path).ok()?).ok()??;
        Some((record, fs::metadata(&path).ok()?.modified().ok()?))
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove(&self, key: &Digest) -> Result<(), DiskError> {
        self.disk.remove(&sharded(&self.folder, key))
    }
}
