//! The ledger: the last result of every stage of a workflow in one file, `ledgers/<digest of the
//! workflow's name>`. It may be deleted at any time.
//!
//! The truth is in the records, one file each. A run that finds nothing to do would have to read
//! them all; with the ledger it reads one file and only checks that the files of records and
//! objects exist. The ledger also leads from a stage's name to its last key, which is how a run can
//! say what changed.
//!
//! The bytes, all numbers big-endian; the digest is of everything before it:
//!
//! ```text
//! ledger  "BLIPLED1" entries:u32 entry* digest:32
//! entry   name:text key:32 output:32 count:u64 rejected:u64 took_ms:u64 lists:text
//! text    len:u32 utf-8
//! ```
//!
//! `count` is all ones where there is none; `lists` is empty, or JSON of the fields that most
//! results leave empty.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checksummed;
use super::disk::{Disk, DiskError};
use super::stage_result::{StageResult, encode_bytes};
use crate::dataset::FormatError;
use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"BLIPLED1";

/// The last result of every stage of a workflow, by the stage's name.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ledger {
    stages: HashMap<Arc<str>, Arc<StageResult>>,
}

impl Ledger {
    /// The ledger of a workflow; an empty one when there is none, or it is corrupt.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be read.
    pub fn read(disk: &Disk, cache: &Path, workflow: &str) -> Result<Self, DiskError> {
        let path = path_of(cache, workflow);
        let Some(bytes) = disk.read_unless_folder(&path)? else {
            return Ok(Self::default());
        };
        Ok(Self::decode(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the ledger is ignored");
            Self::default()
        }))
    }

    /// # Errors
    /// [`FormatError`] when the bytes are corrupt.
    pub(crate) fn validate(bytes: &[u8]) -> Result<(), FormatError> {
        Self::decode(bytes).map(drop)
    }

    /// # Errors
    /// [`DiskError`].
    pub fn write(&self, disk: &Disk, cache: &Path, workflow: &str) -> Result<(), DiskError> {
        disk.write(&path_of(cache, workflow), &self.encode())
    }

    /// The last result of a stage.
    pub fn get(&self, stage: &str) -> Option<&Arc<StageResult>> {
        self.stages.get(stage)
    }

    /// The number of stages in it.
    pub(crate) fn len(&self) -> usize {
        self.stages.len()
    }

    /// Everything in it, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Arc<StageResult>)> {
        self.stages
            .iter()
            .map(|(name, result)| (name.as_ref(), result))
    }

    /// Everything in it, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<StageResult>)> {
        self.all().collect::<BTreeMap<_, _>>().into_iter()
    }

    /// Stores the newest result of a stage; says whether it differs from the previous one.
    pub fn insert(&mut self, stage: &Arc<str>, result: &Arc<StageResult>) -> bool {
        if let Some(known) = self.stages.get(stage)
            && known.key == result.key
            && known.output == result.output
        {
            return false;
        }
        self.stages.insert(Arc::clone(stage), Arc::clone(result));
        true
    }

    /// Removes stages that the workflow no longer has.
    pub fn retain(&mut self, has: impl Fn(&str) -> bool) {
        self.stages.retain(|name, _| has(name));
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let count = u32::try_from(self.stages.len()).expect("a workflow has fewer stages");
        bytes.extend(count.to_be_bytes());
        for (name, result) in self.iter() {
            encode_bytes(&mut bytes, name.as_bytes());
            result.encode(&mut bytes);
        }
        checksummed::append_checksum(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = checksummed::reader(bytes, MAGIC, "ledger")?;
        let count = reader.u32()?;
        let mut stages = HashMap::with_capacity(count as usize);
        for _ in 0..count {
            let name = std::str::from_utf8(reader.bytes()?)
                .map_err(|_| reader.error("a name that is not UTF-8"))?;
            stages.insert(name.into(), Arc::new(StageResult::decode(&mut reader)?));
        }
        reader.expect_end()?;
        Ok(Self { stages })
    }
}

fn path_of(cache: &Path, workflow: &str) -> PathBuf {
    let name = Digest::of(workflow.as_bytes());
    cache.join("ledgers").join(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(number: u8) -> Arc<StageResult> {
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
    fn it_round_trips_and_every_flipped_byte_is_detected() {
        let cache = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        for number in 0..9 {
            assert!(ledger.insert(&format!("stage {number}").into(), &result(number)));
        }
        assert!(!ledger.insert(&"stage 3".into(), &result(3)));
        let disk = Disk::default();
        ledger.write(&disk, cache.path(), "w").unwrap();
        let read = |workflow| Ledger::read(&disk, cache.path(), workflow).unwrap();
        assert_eq!(read("w"), ledger);
        assert_eq!(read("other"), Ledger::default());
        let bytes = ledger.encode();
        for offset in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1;
            assert!(Ledger::decode(&flipped).is_err(), "{offset}");
            assert!(Ledger::decode(&bytes[..offset]).is_err(), "{offset}");
        }
    }
}
