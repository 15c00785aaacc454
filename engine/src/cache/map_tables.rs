//! Map tables: the output chunk of a map stage for each input chunk, `maps/<digest>`. The digest is
//! of everything that the stage depends on except its dataset. A table may be deleted at any time.
//!
//! Most chunks of a dataset are those of yesterday, and so are their results. With the table a
//! chunk is one look-up instead of one for every item in it. Chunks with rejected items are not in
//! it, so that those items are retried and listed again.
//!
//! The bytes, all numbers big-endian; the digest is of everything before it:
//!
//! ```text
//! "BLIPMAP1" chunks:u32 (input:32 output:32 units:u32)* digest:32
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::checksummed;
use super::disk::{Disk, DiskError};
use crate::dataset::FormatError;
use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"BLIPMAP1";
/// Chunks of earlier datasets are kept while a table has at most this many more chunks than the
/// newest dataset: going back to an earlier dataset is cheap, and the table stays bounded.
const OLDER_MAX: usize = 1024;

/// The result for an input chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MappedChunk {
    /// The output chunk: an object.
    pub(crate) output: Digest,
    /// The number of units that it was assembled from.
    pub(crate) units: u32,
}

/// The table of a map stage.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct MapTable {
    chunks: HashMap<Digest, MappedChunk>,
}

impl MapTable {
    /// The table of this name; an empty one when there is none, or it is corrupt.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be read.
    pub(crate) fn read(disk: &Disk, cache: &Path, name: &Digest) -> Result<Self, DiskError> {
        let path = path_of(cache, name);
        let Some(bytes) = disk.read_unless_folder(&path)? else {
            return Ok(Self::default());
        };
        Ok(Self::decode(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the map table is ignored");
            Self::default()
        }))
    }

    /// # Errors
    /// [`FormatError`] when the bytes are corrupt.
    pub(crate) fn validate(bytes: &[u8]) -> Result<(), FormatError> {
        Self::decode(bytes).map(drop)
    }

    pub(crate) fn get(&self, input: &Digest) -> Option<MappedChunk> {
        self.chunks.get(input).copied()
    }

    /// Stores the chunks of a run, and those of earlier runs up to a limit.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(crate) fn write(
        &self,
        disk: &Disk,
        cache: &Path,
        name: &Digest,
        chunks: &[(Digest, MappedChunk)],
    ) -> Result<(), DiskError> {
        let older = if self.chunks.len() <= chunks.len() + OLDER_MAX {
            self.chunks.clone()
        } else {
            HashMap::new()
        };
        let mut all = Self { chunks: older };
        all.chunks.extend(chunks.iter().copied());
        if all == *self {
            Ok(())
        } else {
            disk.write(&path_of(cache, name), &all.encode())
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut chunks: Vec<(&Digest, &MappedChunk)> = self.chunks.iter().collect();
        chunks.sort_unstable_by_key(|(input, _)| **input);
        let mut bytes = MAGIC.to_vec();
        let count = u32::try_from(chunks.len()).expect("a dataset has fewer chunks");
        bytes.extend(count.to_be_bytes());
        for (input, MappedChunk { output, units }) in chunks {
            bytes.extend(input.as_bytes());
            bytes.extend(output.as_bytes());
            bytes.extend(units.to_be_bytes());
        }
        checksummed::append_checksum(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = checksummed::reader(bytes, MAGIC, "map table")?;
        let mut chunks = HashMap::new();
        for _ in 0..reader.u32()? {
            let (input, output) = (reader.digest()?, reader.digest()?);
            let units = reader.u32()?;
            chunks.insert(input, MappedChunk { output, units });
        }
        reader.expect_end()?;
        Ok(Self { chunks })
    }
}

fn path_of(cache: &Path, name: &Digest) -> PathBuf {
    cache.join("maps").join(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips_and_a_corrupt_one_reads_as_empty() {
        let cache = tempfile::tempdir().unwrap();
        let (disk, name) = (Disk::default(), Digest::of(b"name"));
        let read = || MapTable::read(&disk, cache.path(), &name).unwrap();
        let chunk = |number: u32| {
            let digest = Digest::of(&number.to_be_bytes());
            (
                digest,
                MappedChunk {
                    output: Digest::of(digest.as_bytes()),
                    units: number,
                },
            )
        };
        let chunks: Vec<(Digest, MappedChunk)> = (0..5).map(chunk).collect();
        MapTable::default()
            .write(&disk, cache.path(), &name, &chunks[..3])
            .unwrap();
        let table = read();
        table
            .write(&disk, cache.path(), &name, &chunks[2..])
            .unwrap();
        let table = read();
        assert!(
            chunks
                .iter()
                .all(|(input, mapped)| table.get(input) == Some(*mapped))
        );
        let mut bytes = table.encode();
        bytes[40] ^= 1;
        std::fs::write(path_of(cache.path(), &name), bytes).unwrap();
        assert_eq!(read(), MapTable::default());
    }
}
