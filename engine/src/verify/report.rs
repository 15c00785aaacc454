//! What a verification found, and what a repair did about it.

use std::fmt;
use std::path::PathBuf;

use crate::digest::Digest;

/// How a file differs from what was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CorruptionKind {
    /// The content does not match the digest in the name.
    Digest,
    /// The file has no bytes.
    Empty,
    /// A folder or something else has the name of a file.
    NotAFile,
    /// A record refers to it and it does not exist.
    Missing,
    /// A record or another small file does not match its checksum or its name.
    Record(String),
    /// A checkpoint is incomplete.
    Checkpoint(String),
    /// The index could not be opened, or differs from the groups.
    Index(String),
}

impl fmt::Display for CorruptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CorruptionKind::Digest => f.write_str("digest mismatch"),
            CorruptionKind::Empty => f.write_str("it is empty"),
            CorruptionKind::NotAFile => f.write_str("it is not a file"),
            CorruptionKind::Missing => f.write_str("it is missing"),
            CorruptionKind::Record(detail) | CorruptionKind::Index(detail) => f.write_str(detail),
            CorruptionKind::Checkpoint(detail) => write!(f, "corrupt checkpoint: {detail}"),
        }
    }
}

/// A result that is no longer complete.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AffectedResult {
    /// The name of the stage in the workflow that ran it first.
    pub stage: String,
    pub key: Digest,
}

/// A corrupt or missing file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// Where it was.
    pub path: PathBuf,
    pub kind: CorruptionKind,
    /// Where it is now; `None` when there was nothing to move, or the cache cannot be written.
    pub moved_to: Option<PathBuf>,
    /// The results that need it.
    pub affected: Vec<AffectedResult>,
}

/// The result of a verification. The numbers count what was checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    pub records: u64,
    pub objects: u64,
    /// Groups of results of units, and of digests of files.
    pub groups: u64,
    /// Checkpoints of unfinished stages, and warm starts.
    pub checkpoints: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Objects that no record refers to. They are not corrupt: `gc` removes them.
    pub unreferenced: u64,
    /// Files that are not blip's. They are not corrupt either, and stay where they are.
    pub unknown_files: Vec<PathBuf>,
    /// What could not be read, one message each. It may be corrupt or not, and stays where it is.
    pub unreadable: Vec<String>,
    /// Records of another version of the program.
    pub other_versions: u64,
    /// Whether the index was checked. A quick verification does not, and it is not possible while
    /// another process has the index open.
    pub index: bool,
    /// Warnings for the user: that the index was rebuilt, or why it was not checked.
    pub notes: Vec<String>,
    pub corruptions: Vec<Corruption>,
}

impl VerifyReport {
    /// All results that are no longer complete, each once.
    pub fn affected(&self) -> Vec<AffectedResult> {
        let mut affected: Vec<AffectedResult> = self
            .corruptions
            .iter()
            .flat_map(|corruption| corruption.affected.clone())
            .collect();
        affected.sort();
        affected.dedup();
        affected
    }
}

/// The outcome of a repair for each affected result.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepairReport {
    /// Complete again, with the same key.
    pub restored: Vec<AffectedResult>,
    /// Not complete, and why.
    pub failed: Vec<(AffectedResult, String)>,
}
