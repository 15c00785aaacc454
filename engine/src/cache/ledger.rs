//! What every stage of a workflow last came to, in one file: `ledgers/<digest of the workflow's
//! name>`. It may be deleted at any time.
//!
//! The truth is in the records, one file each. A run that finds nothing to do would have to read
//! them all; with the ledger it reads one file and only asks whether the files of records and
//! objects are there. A stage's name leads to its last key, which is how a run can say what
//! changed.
//!
//! The bytes, all numbers big-endian; the digest is of everything before it:
//!
//! ```text
//! "BLIPLED1" entries:u32 (name:text key:32 output:32 count:u64 rejected:u64 took_ms:u64 rest:text)* digest:32
//! text       len:u32 utf-8
//! ```
//!
//! `count` is all ones where there is none; `rest` is empty, or JSON of what few stages have.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskError};
use super::records::Record;
use super::sealed;
use crate::dataset::{FormatError, Reader};
use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"BLIPLED1";
const NO_COUNT: u64 = u64::MAX;

/// A finished stage as a run needs it: its record without what only messages and `explain` read.
#[derive(Clone, PartialEq, Debug)]
pub struct StageResult {
    /// Its key.
    pub key: Digest,
    /// Its result: an object.
    pub output: Digest,
    /// How many items the result has, where it has items.
    pub count: Option<u64>,
    /// By-products outside the result's digest, by name.
    pub side_outputs: Box<[(String, Digest)]>,
    /// What the result and its side_outputs need besides the result itself.
    pub objects: Box<[Digest]>,
    /// Numbers about the result.
    pub metrics: Box<[(String, f64)]>,
    /// What a reader should know.
    pub notes: Box<[String]>,
    /// How many items could not be used.
    pub rejected: u64,
    /// How long it took when it ran, in milliseconds.
    pub took_ms: u64,
}

/// What few stages have.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rest {
    #[serde(rename = "sides")]
    side_outputs: Box<[(String, Digest)]>,
    objects: Box<[Digest]>,
    metrics: Box<[(String, f64)]>,
    notes: Box<[String]>,
}

impl StageResult {
    /// What a run needs of a record.
    pub fn of(key: Digest, record: &Record) -> Self {
        let mut objects = record.objects.clone();
        objects.retain(|object| *object != record.output);
        Self {
            key,
            output: record.output,
            count: record.count,
            side_outputs: record.side_outputs.as_slice().into(),
            objects: objects.into(),
            metrics: record.metrics.as_slice().into(),
            notes: record.notes.as_slice().into(),
            rejected: record.rejected.len() as u64,
            took_ms: record.took_ms,
        }
    }

    /// One of which only key and result matter.
    #[cfg(test)]
    pub(crate) fn bare(key: Digest, output: Digest) -> Self {
        let (side_outputs, objects, metrics, notes) = Default::default();
        Self {
            key,
            output,
            count: None,
            side_outputs,
            objects,
            metrics,
            notes,
            rejected: 0,
            took_ms: 0,
        }
    }

    /// Whether it needs this object.
    pub fn needs(&self, object: &Digest) -> bool {
        self.output == *object || self.objects.contains(object)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let Self {
            key,
            output,
            count,
            side_outputs,
            objects,
            metrics,
            notes,
            rejected,
            took_ms,
        } = self;
        bytes.extend(key.as_bytes());
        bytes.extend(output.as_bytes());
        for number in [count.unwrap_or(NO_COUNT), *rejected, *took_ms] {
            bytes.extend(number.to_be_bytes());
        }
        let plain =
            side_outputs.is_empty() && objects.is_empty() && metrics.is_empty() && notes.is_empty();
        let rest = || {
            let (side_outputs, objects) = (side_outputs.clone(), objects.clone());
            let rest = Rest {
                side_outputs,
                objects,
                metrics: metrics.clone(),
                notes: notes.clone(),
            };
            serde_json::to_vec(&rest).expect("names, digests and numbers are plain data")
        };
        encode_text(bytes, &if plain { Vec::new() } else { rest() });
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let (key, output) = (reader.digest()?, reader.digest()?);
        let (count, rejected, took_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let rest = reader.text()?;
        let rest = match rest {
            [] => Rest::default(),
            json => serde_json::from_slice(json)
                .map_err(|_| reader.error("an entry that is no JSON"))?,
        };
        let Rest {
            side_outputs,
            objects,
            metrics,
            notes,
        } = rest;
        let count = (count != NO_COUNT).then_some(count);
        Ok(Self {
            key,
            output,
            count,
            side_outputs,
            objects,
            metrics,
            notes,
            rejected,
            took_ms,
        })
    }
}

fn encode_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend(
        u32::try_from(text.len())
            .expect("names and notes are short")
            .to_be_bytes(),
    );
    bytes.extend(text);
}

/// The last result of every stage of a workflow, by the stage's name.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ledger {
    stages: HashMap<Arc<str>, Arc<StageResult>>,
}

impl Ledger {
    /// The ledger of a workflow; an empty one when there is none, or it is damaged.
    pub fn read(cache: &Path, workflow: &str) -> Self {
        let path = place(cache, workflow);
        let Ok(bytes) = fs::read(&path) else {
            return Self::default();
        };
        Self::decode(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "taken for an empty one");
            Self::default()
        })
    }

    /// What is wrong with the bytes of one; nothing when they are whole.
    pub(crate) fn wrong(bytes: &[u8]) -> Option<FormatError> {
        Self::decode(bytes).err()
    }

    /// Stores it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write(&self, disk: &Disk, cache: &Path, workflow: &str) -> Result<(), DiskError> {
        disk.write(&place(cache, workflow), &self.encode())
    }

    /// What a stage last came to.
    pub fn get(&self, stage: &str) -> Option<&Arc<StageResult>> {
        self.stages.get(stage)
    }

    /// How many stages it tells of.
    pub(crate) fn len(&self) -> usize {
        self.stages.len()
    }

    /// Everything in it, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Arc<StageResult>)> {
        self.stages
            .iter()
            .map(|(name, finished)| (name.as_ref(), finished))
    }

    /// Everything in it, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<StageResult>)> {
        self.all().collect::<BTreeMap<_, _>>().into_iter()
    }

    /// Notes the newest result of a stage; says whether it is another one than before.
    pub fn insert(&mut self, stage: &Arc<str>, finished: &Arc<StageResult>) -> bool {
        match self.stages.get_mut(stage) {
            Some(known) if known.key == finished.key && known.output == finished.output => false,
            Some(known) => {
                *known = Arc::clone(finished);
                true
            }
            None => self
                .stages
                .insert(Arc::clone(stage), Arc::clone(finished))
                .is_none(),
        }
    }

    /// Forgets stages that the workflow no longer has.
    pub fn retain(&mut self, has: impl Fn(&str) -> bool) {
        self.stages.retain(|name, _| has(name));
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(
            u32::try_from(self.stages.len())
                .expect("a workflow has fewer stages")
                .to_be_bytes(),
        );
        for (name, finished) in self.iter() {
            encode_text(&mut bytes, name.as_bytes());
            finished.encode(&mut bytes);
        }
        sealed::seal_bytes(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = sealed::open_bytes(bytes, MAGIC, "ledger")?;
        let count = reader.u32()?;
        let mut stages = HashMap::with_capacity(count as usize);
        for _ in 0..count {
            let name = std::str::from_utf8(reader.text()?)
                .map_err(|_| reader.error("a name that is no text"))?;
            stages.insert(name.into(), Arc::new(StageResult::decode(&mut reader)?));
        }
        reader.end()?;
        Ok(Self { stages })
    }
}

fn place(cache: &Path, workflow: &str) -> PathBuf {
    cache
        .join("ledgers")
        .join(Digest::of(workflow.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(number: u8) -> Arc<StageResult> {
        let digest = Digest::of(&[number]);
        let odd = number % 2 == 1;
        Arc::new(StageResult {
            key: digest,
            output: Digest::of(digest.as_bytes()),
            count: odd.then_some(7),
            side_outputs: if odd {
                [("curves".to_owned(), digest)].into()
            } else {
                Box::default()
            },
            objects: if odd { [digest].into() } else { Box::default() },
            metrics: if odd {
                [("auc".to_owned(), 0.9)].into()
            } else {
                Box::default()
            },
            notes: if odd {
                ["17 duplicates".to_owned()].into()
            } else {
                Box::default()
            },
            rejected: u64::from(number),
            took_ms: 5,
        })
    }

    #[test]
    fn it_comes_back_and_every_flipped_byte_is_noticed() {
        let cache = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        for number in 0..9 {
            assert!(ledger.insert(&format!("stage {number}").into(), &finished(number)));
        }
        assert!(!ledger.insert(&"stage 3".into(), &finished(3)));
        ledger.write(&Disk::default(), cache.path(), "w").unwrap();
        assert_eq!(Ledger::read(cache.path(), "w"), ledger);
        assert_eq!(Ledger::read(cache.path(), "other"), Ledger::default());
        let bytes = ledger.encode();
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            assert!(Ledger::decode(&flipped).is_err(), "{place}");
            assert!(Ledger::decode(&bytes[..place]).is_err(), "{place}");
        }
    }
}
