//! What a stage left behind: `results/aa/<key>`, one JSON file a key. Its rename is the commit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskError};
use super::objects::sharded;
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
    pub preimage: Vec<(String, String)>,
    /// The type of the result.
    pub ty: String,
    /// The result: an object.
    pub output: Digest,
    /// How many items the result has, where it has items.
    pub count: Option<u64>,
    /// By-products outside the result's digest, by name.
    pub sides: Vec<(String, Digest)>,
    /// Every object the result and its sides need.
    pub objects: Vec<Digest>,
    /// Numbers about the result.
    pub metrics: Vec<(String, f64)>,
    /// What a reader should know: "17 duplicates dropped".
    pub notes: Vec<String>,
    /// Items that could not be used, with the reason.
    pub quarantined: Vec<Quarantined>,
    /// When the stage began, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it took.
    pub took_ms: u64,
}

/// An item that could not be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// Which one.
    pub item: String,
    /// Why.
    pub reason: String,
}

/// The folder of records.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    disk: Disk,
}

impl Record {
    /// The version that [`Records::put`] writes.
    pub const VERSION: u32 = VERSION;
}

impl Records {
    /// The records below `cache`.
    pub fn new(cache: &Path, disk: Disk) -> Self {
        Self { folder: cache.join("results"), disk }
    }

    /// The record of a key. One that cannot be read, or is of another version, is a miss: the stage runs again and
    /// writes a good one.
    pub fn get(&self, key: &Digest) -> Option<Record> {
        let path = sharded(&self.folder, key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a record cannot be read: taken for a miss");
                return None;
            }
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.version == VERSION => Some(record),
            Ok(record) => {
                tracing::info!(path = %path.display(), record.version, "a record of another version: taken for a miss");
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a damaged record: taken for a miss");
                None
            }
        }
    }

    /// Stores a record: from here on the key is known.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn put(&self, key: &Digest, record: &Record) -> Result<(), DiskError> {
        let path = sharded(&self.folder, key);
        if path.is_dir() {
            self.disk.remove(&path)?;
        }
        let bytes = serde_json::to_vec(record).expect("a record is plain data with text keys");
        self.disk.write(&path, &bytes)
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove(&self, key: &Digest) -> Result<(), DiskError> {
        self.disk.remove(&sharded(&self.folder, key))
    }
}
