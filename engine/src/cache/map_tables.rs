//! What chunks of a dataset became in a map stage: `maps/<digest of what the stage depends on but
//! its dataset>`. It may be deleted at any time.
//!
//! Most of a dataset's chunks are those of yesterday, and then so are their results. With the table
//! a chunk is one look-up instead of one for every item in it. Chunks with items that could not be
//! used are not in it.
//!
//! The bytes, all numbers big-endian; the digest is of everything before it:
//!
//! ```text
//! "BLIPMAP1" chunks:u32 (input:32 output:32 units:u32)* digest:32
//! ```

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskError};
use super::sealed;
use crate::dataset::FormatError;
use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"BLIPMAP1";
/// Chunks of earlier datasets are kept up to as many as the newest has, and this many more.
const OLDER_MAX: usize = 1024;

/// A chunk's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapped {
    /// The output chunk: an object.
    pub(crate) output: Digest,
    /// Units of work that went into it.
    pub(crate) units: u32,
}

/// The table of a map stage.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct MapTable {
    chunks: HashMap<Digest, Mapped>,
}

impl MapTable {
    /// The table of this name; an empty one when there is none, or it is damaged.
    pub(crate) fn read(cache: &Path, name: &Digest) -> Self {
        let path = place(cache, name);
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

    pub(crate) fn get(&self, input: &Digest) -> Option<Mapped> {
        self.chunks.get(input).copied()
    }

    /// Stores the chunks of a run, and of earlier ones as far as there is room.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(crate) fn write(
        &self,
        disk: &Disk,
        cache: &Path,
        name: &Digest,
        chunks: &[(Digest, Mapped)],
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
            disk.write(&place(cache, name), &all.encode())
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut chunks: Vec<(&Digest, &Mapped)> = self.chunks.iter().collect();
        chunks.sort_unstable_by_key(|(input, _)| **input);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(
            u32::try_from(chunks.len())
                .expect("a dataset has fewer chunks")
                .to_be_bytes(),
        );
        for (input, Mapped { output, units }) in chunks {
            bytes.extend(input.as_bytes());
            bytes.extend(output.as_bytes());
            bytes.extend(units.to_be_bytes());
        }
        sealed::seal_bytes(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = sealed::open_bytes(bytes, MAGIC, "table of a map stage")?;
        let mut chunks = HashMap::new();
        for _ in 0..reader.u32()? {
            let (input, output) = (reader.digest()?, reader.digest()?);
            chunks.insert(
                input,
                Mapped {
                    output,
                    units: reader.u32()?,
                },
            );
        }
        reader.end()?;
        Ok(Self { chunks })
    }
}

fn place(cache: &Path, name: &Digest) -> PathBuf {
    cache.join("maps").join(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_reads_as_empty() {
        let cache = tempfile::tempdir().unwrap();
        let (disk, name) = (Disk::default(), Digest::of(b"name"));
        let chunk = |number: u32| {
            let digest = Digest::of(&number.to_be_bytes());
            (
                digest,
                Mapped {
                    output: Digest::of(digest.as_bytes()),
                    units: number,
                },
            )
        };
        let chunks: Vec<(Digest, Mapped)> = (0..5).map(chunk).collect();
        MapTable::default()
            .write(&disk, cache.path(), &name, &chunks[..3])
            .unwrap();
        let table = MapTable::read(cache.path(), &name);
        table
            .write(&disk, cache.path(), &name, &chunks[2..])
            .unwrap();
        let table = MapTable::read(cache.path(), &name);
        assert!(
            chunks
                .iter()
                .all(|(input, mapped)| table.get(input) == Some(*mapped))
        );
        let mut bytes = table.encode();
        bytes[40] ^= 1;
        fs::write(place(cache.path(), &name), bytes).unwrap();
        assert_eq!(MapTable::read(cache.path(), &name), MapTable::default());
    }
}
