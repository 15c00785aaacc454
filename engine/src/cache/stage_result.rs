//! The result of a finished stage as a run needs it, and how the ledger stores it.

use serde::{Deserialize, Serialize};

use super::records::Record;
use crate::dataset::{ByteReader, FormatError};
use crate::digest::Digest;

/// Stands for "no count" in the ledger.
const NO_COUNT: u64 = u64::MAX;

/// A finished stage: its record without what only messages and `explain` read. A run may hold tens
/// of thousands, most of them without lists, hence the boxed slices.
#[derive(Clone, PartialEq, Debug)]
pub struct StageResult {
    pub key: Digest,
    pub output: Digest,
    /// The number of items, where the output is a dataset.
    pub count: Option<u64>,
    /// Objects outside the output's digest, by name.
    pub side_outputs: Box<[(String, Digest)]>,
    /// All objects that the output and the side outputs refer to, without the output itself.
    pub objects: Box<[Digest]>,
    pub metrics: Box<[(String, f64)]>,
    /// Lines for the user: "17 duplicates dropped".
    pub notes: Box<[String]>,
    /// The number of rejected items.
    pub rejected: u64,
    /// How long the stage took when it ran.
    pub took_ms: u64,
}

/// The fields that most results leave empty. They are JSON in the ledger, or no bytes at all.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    #[serde(rename = "sides")]
    side_outputs: Box<[(String, Digest)]>,
    objects: Box<[Digest]>,
    metrics: Box<[(String, f64)]>,
    notes: Box<[String]>,
}

impl StageResult {
    pub fn from_record(key: Digest, record: &Record) -> Self {
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

    /// A result with a key and an output only.
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

    /// Whether an object is part of it.
    pub fn references(&self, object: &Digest) -> bool {
        self.output == *object || self.objects.contains(object)
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let count = self.count.unwrap_or(NO_COUNT);
        bytes.extend(self.key.as_bytes());
        bytes.extend(self.output.as_bytes());
        for number in [count, self.rejected, self.took_ms] {
            bytes.extend(number.to_be_bytes());
        }
        let lists = Lists {
            side_outputs: self.side_outputs.clone(),
            objects: self.objects.clone(),
            metrics: self.metrics.clone(),
            notes: self.notes.clone(),
        };
        let json = if lists == Lists::default() {
            Vec::new()
        } else {
            serde_json::to_vec(&lists).expect("names, digests and numbers are plain data")
        };
        encode_bytes(bytes, &json);
    }

    pub(super) fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let (key, output) = (reader.digest()?, reader.digest()?);
        let (count, rejected, took_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let lists = match reader.bytes()? {
            [] => Lists::default(),
            json => serde_json::from_slice(json)
                .map_err(|_| reader.error("invalid JSON in an entry"))?,
        };
        Ok(Self {
            key,
            output,
            count: (count != NO_COUNT).then_some(count),
            side_outputs: lists.side_outputs,
            objects: lists.objects,
            metrics: lists.metrics,
            notes: lists.notes,
            rejected,
            took_ms,
        })
    }
}

/// Appends the length in 4 bytes, big-endian, and the bytes.
pub(super) fn encode_bytes(bytes: &mut Vec<u8>, field: &[u8]) {
    let len = u32::try_from(field.len()).expect("names and notes are far below 4 GiB");
    bytes.extend(len.to_be_bytes());
    bytes.extend(field);
}
