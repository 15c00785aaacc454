//! Records of finished stages: `results/aa/<key>`, one checksummed JSON file each. The rename of
//! that file is the commit of the stage.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::checksummed::{self, ChecksumError};
use super::corrupt::CorruptFolder;
use super::disk::{Disk, DiskError, folder_of};
use super::objects::sharded;
use crate::digest::Digest;
use crate::key;

/// The layout of [`Record`]; a record of another version is a miss.
const VERSION: u32 = 1;

/// A finished stage. The names of its fields are the format on disk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The layout's version.
    pub version: u32,
    /// The stage's name in the workflow that ran it first. Only for messages: it is not in the key.
    pub stage: String,
    pub op: String,
    /// All fields that the key was hashed from, as text. `explain` compares them.
    #[serde(rename = "preimage")]
    pub key_inputs: Vec<(String, String)>,
    /// The type of the output.
    pub ty: String,
    pub output: Digest,
    /// The number of items, where the output is a dataset.
    pub count: Option<u64>,
    /// Objects outside the output's digest, by name.
    #[serde(rename = "sides")]
    pub side_outputs: Vec<(String, Digest)>,
    /// All objects that the output and the side outputs refer to.
    pub objects: Vec<Digest>,
    pub metrics: Vec<(String, f64)>,
    /// Lines for the user: "17 duplicates dropped".
    pub notes: Vec<String>,
    #[serde(rename = "quarantined")]
    pub rejected: Vec<RejectedItem>,
    /// When the stage started, in milliseconds since 1970.
    pub started_ms: u64,
    pub took_ms: u64,
}

/// An item that could not be used, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedItem {
    pub item: String,
    pub reason: String,
}

/// The folder of records.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    evicted: PathBuf,
    disk: Disk,
    corrupt: CorruptFolder,
}

impl Record {
    /// The version that [`Records::put`] writes.
    pub const VERSION: u32 = VERSION;

    /// Every object that it names; some more than once.
    pub fn referenced_objects(&self) -> impl Iterator<Item = &Digest> {
        self.objects
            .iter()
            .chain(self.side_outputs.iter().map(|(_, digest)| digest))
            .chain([&self.output])
    }

    /// The record in these bytes; `None` when another version wrote them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>, ChecksumError> {
        /// The field that every version has. Other versions may have fields that this one rejects.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match checksummed::decode_json::<Versioned>(bytes)?.version {
            VERSION => checksummed::decode_json(bytes).map(Some),
            _ => Ok(None),
        }
    }
}

impl Records {
    pub fn new(cache: &Path, disk: Disk, corrupt: CorruptFolder) -> Self {
        Self {
            folder: cache.join("results"),
            evicted: cache.join("evicted"),
            disk,
            corrupt,
        }
    }

    /// The record of a key. One that is corrupt or of another version is a miss: the stage runs
    /// again and replaces it.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be read, which says nothing about what is in it.
    pub fn get(&self, key: &Digest) -> Result<Option<Record>, DiskError> {
        let path = self.path(key);
        let bytes = match self.disk.read(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.is_a_folder() => {
                self.corrupt
                    .move_in_or_warn(&path, "no record but a folder");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(self.decode_or_move_away(key, &path, &bytes))
    }

    fn decode_or_move_away(&self, key: &Digest, path: &Path, bytes: &[u8]) -> Option<Record> {
        match Record::decode(bytes) {
            // A file under another key's name holds another stage's result.
            Ok(Some(record)) if key::hash_fields(&record.key_inputs) != *key => {
                self.corrupt.move_in_or_warn(path, "record of another key");
                None
            }
            Ok(record) => record,
            Err(error) => {
                let why = format!("corrupt record ({error})");
                self.corrupt.move_in_or_warn(path, &why);
                None
            }
        }
    }

    /// The file of a record.
    pub fn path(&self, key: &Digest) -> PathBuf {
        sharded(&self.folder, key)
    }

    /// Commits stages: from now on their keys hit.
    ///
    /// # Errors
    /// [`DiskError`]; some of them may be stored.
    pub fn put(&self, records: &[(Digest, &Record)]) -> Result<(), DiskError> {
        let mut files = Vec::with_capacity(records.len());
        for (key, record) in records {
            let path = self.path(key);
            // A rename replaces a corrupt file, but not a folder.
            if path.is_dir() {
                self.corrupt.move_in(&path)?;
            }
            files.push((path, Arc::from(checksummed::encode_json(record))));
        }
        self.disk.write_batch(&files, BTreeSet::new())
    }

    /// Whether a record exists and has bytes, whatever they are.
    pub fn contains(&self, key: &Digest) -> bool {
        fs::metadata(self.path(key)).is_ok_and(|file| file.is_file() && file.len() > 0)
    }

    /// Removes a record, and keeps it among the evicted ones, so that `explain` can say when and
    /// why the result went.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn evict(&self, key: &Digest) -> Result<(), DiskError> {
        let evicted = sharded(&self.evicted, key);
        self.disk.create_folder(folder_of(&evicted))?;
        self.disk.rename(&self.path(key), &evicted)?;
        // The file's time is only for messages: a failure does not matter.
        let touched = File::open(&evicted).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::warn!(%error, "the time of a removal could not be stored");
        }
        Ok(())
    }

    /// The record of an evicted key, and when it was evicted.
    pub fn evicted(&self, key: &Digest) -> Option<(Record, SystemTime)> {
        let path = sharded(&self.evicted, key);
        let bytes = self.disk.read(&path).ok().flatten()?;
        let record = Record::decode(&bytes).ok()??;
        let evicted_at = fs::metadata(&path).ok()?.modified().ok()?;
        Some((record, evicted_at))
    }

    /// # Errors
    /// [`DiskError`].
    pub fn remove(&self, key: &Digest) -> Result<(), DiskError> {
        self.disk.remove(&self.path(key))
    }
}
