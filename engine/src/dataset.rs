//! Datasets: items sorted by id, divided into chunks by content, listed in a manifest. Equal items
//! give equal bytes.
//!
//! Ids alone decide where an item is and where chunks end. So a dataset does not depend on the
//! order and the shards in which its items were read, and a changed item changes two chunks at
//! most: the one it was in and the one it is in now.
//!
//! The bytes, all numbers big-endian:
//!
//! ```text
//! chunk     "BLIPCHK1" count:u32 (id:32 len:u32 payload:len)*
//! manifest  "BLIPSET1" items:u64 chunks:u32 (digest:32 count:u32)*
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::digest::Digest;

const CHUNK_MAGIC: &[u8; 8] = b"BLIPCHK1";
const MANIFEST_MAGIC: &[u8; 8] = b"BLIPSET1";
/// A chunk ends after an id whose last byte is zero: 256 items on average.
const BOUNDARY_MASK: u8 = 0xff;
/// Ids are digests and thus random, so chunks are rarely this long. The limit bounds their memory.
const CHUNK_ITEMS_MAX: usize = 1024;
/// Longest payload read back. A longer one is corrupt: it must not make the reader allocate
/// gigabytes.
const PAYLOAD_BYTES_MAX: u32 = 64 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its identity, and its position in the order.
    pub id: Digest,
    /// Bytes of the op that wrote the dataset. The engine does not interpret them.
    pub payload: Vec<u8>,
}

/// Consecutive items: the unit in which datasets are stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    pub items: Vec<Item>,
}

/// Bytes that are not in the expected format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("corrupt {what}: {detail}")]
pub struct FormatError {
    what: &'static str,
    detail: &'static str,
}

/// Decodes numbers and slices from the front of a byte string.
pub(crate) struct ByteReader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> ByteReader<'a> {
    /// `what` names the format in messages.
    pub(crate) fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(self.error("unexpected end of data"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_be_bytes(
            self.take(4)?.try_into().expect("four bytes were taken"),
        ))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_be_bytes(
            self.take(8)?.try_into().expect("eight bytes were taken"),
        ))
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, FormatError> {
        Ok(Digest::from_bytes(
            self.take(32)?.try_into().expect("32 bytes were taken"),
        ))
    }

    /// A field of bytes with its length in front.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(crate) fn expect_end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error("trailing bytes"))
        }
    }

    pub(crate) fn error(&self, detail: &'static str) -> FormatError {
        FormatError {
            what: self.what,
            detail,
        }
    }
}

impl Chunk {
    pub fn encode(&self) -> Vec<u8> {
        let size: usize = self.items.iter().map(|item| 36 + item.payload.len()).sum();
        let mut bytes = Vec::with_capacity(12 + size);
        bytes.extend(CHUNK_MAGIC);
        bytes.extend(encode_len(self.items.len()).to_be_bytes());
        for item in &self.items {
            bytes.extend(item.id.as_bytes());
            bytes.extend(encode_len(item.payload.len()).to_be_bytes());
            bytes.extend(&item.payload);
        }
        bytes
    }

    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new(bytes, "chunk");
        if reader.take(8)? != CHUNK_MAGIC {
            return Err(reader.error("wrong magic number"));
        }
        let count = reader.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            let (id, len) = (reader.digest()?, reader.u32()?);
            if len > PAYLOAD_BYTES_MAX {
                return Err(reader.error("invalid payload length"));
            }
            let payload = reader.take(len as usize)?.to_vec();
            items.push(Item { id, payload });
        }
        reader.expect_end()?;
        Ok(Self { items })
    }
}

/// A length as the formats store it.
fn encode_len(len: usize) -> u32 {
    u32::try_from(len).expect("chunks and payloads stay far below 4 GiB")
}

/// The list of a dataset's chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Digest and number of items of every chunk, in order.
    pub chunks: Vec<(Digest, u32)>,
}

impl Manifest {
    /// The number of items in the dataset.
    pub fn len(&self) -> u64 {
        self.chunks.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The manifest's bytes; their digest is the dataset's.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + 36 * self.chunks.len());
        bytes.extend(MANIFEST_MAGIC);
        bytes.extend(self.len().to_be_bytes());
        bytes.extend(encode_len(self.chunks.len()).to_be_bytes());
        for (digest, count) in &self.chunks {
            bytes.extend(digest.as_bytes());
            bytes.extend(count.to_be_bytes());
        }
        bytes
    }

    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new(bytes, "dataset manifest");
        if reader.take(8)? != MANIFEST_MAGIC {
            return Err(reader.error("wrong magic number"));
        }
        let items = reader.u64()?;
        let count = reader.u32()?;
        let mut chunks = Vec::new();
        for _ in 0..count {
            chunks.push((reader.digest()?, reader.u32()?));
        }
        reader.expect_end()?;
        let manifest = Self { chunks };
        if manifest.len() == items {
            Ok(manifest)
        } else {
            Err(reader.error("the chunk counts do not add up to the item count"))
        }
    }
}

/// Whether the length of a chunk or manifest is the one that its own fields imply. Payloads are
/// skipped, so this is fast. Other files have no length of their own: they match.
///
/// # Errors
/// What reading the file gives.
pub(crate) fn length_matches(path: &Path, len: u64) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let measured = match read_array::<8>(&mut file) {
        Ok(magic) if magic == *MANIFEST_MAGIC => measure_manifest(&mut file),
        Ok(magic) if magic == *CHUNK_MAGIC => measure_chunk(&mut file),
        Ok(_) => return Ok(true),
        Err(error) => Err(error),
    };
    match measured {
        Ok(measured) => Ok(measured == len),
        // Shorter than a magic number, it is another kind of file. Longer, it ends within its own
        // fields.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(len < 8),
        Err(error) => Err(error),
    }
}

/// The length that a manifest should have. The magic number has been read.
fn measure_manifest(file: &mut impl Read) -> io::Result<u64> {
    let _items: [u8; 8] = read_array(file)?;
    Ok(20 + 36 * u64::from(u32::from_be_bytes(read_array(file)?)))
}

/// The length that a chunk should have. The magic number has been read.
fn measure_chunk(file: &mut BufReader<File>) -> io::Result<u64> {
    let mut len = 12;
    for _ in 0..u32::from_be_bytes(read_array(file)?) {
        let _id: [u8; 32] = read_array(file)?;
        let payload = u32::from_be_bytes(read_array(file)?);
        file.seek_relative(i64::from(payload))?;
        len += 36 + u64::from(payload);
    }
    Ok(len)
}

fn read_array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Two items with one id, which a dataset cannot contain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("two items with the id {0}")]
pub struct DuplicateId(pub Digest);

/// Builds a dataset from items in any order. They are held in memory: payloads are texts and
/// numbers about an item, never its pixels.
#[derive(Clone, Debug, Default)]
pub struct DatasetBuilder {
    items: BTreeMap<Digest, Vec<u8>>,
}

impl DatasetBuilder {
    /// # Errors
    /// [`DuplicateId`].
    pub fn add(&mut self, id: Digest, payload: Vec<u8>) -> Result<(), DuplicateId> {
        match self.items.insert(id, payload) {
            None => Ok(()),
            Some(_) => Err(DuplicateId(id)),
        }
    }

    /// The chunks of the dataset, in order.
    pub fn chunks(self) -> impl Iterator<Item = Chunk> {
        let mut items = self
            .items
            .into_iter()
            .map(|(id, payload)| Item { id, payload });
        std::iter::from_fn(move || {
            let mut chunk = Chunk { items: Vec::new() };
            for item in items.by_ref() {
                let is_last = ends_chunk(&item.id);
                chunk.items.push(item);
                if is_last || chunk.items.len() == CHUNK_ITEMS_MAX {
                    break;
                }
            }
            (!chunk.items.is_empty()).then_some(chunk)
        })
    }
}

/// Whether a chunk ends after the item with this id. This depends on nothing but the id, so a new
/// item moves no boundary but its own.
fn ends_chunk(id: &Digest) -> bool {
    let last = id.as_bytes().last();
    last.is_some_and(|byte| byte & BOUNDARY_MASK == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(names: &[u32]) -> Vec<Chunk> {
        let mut builder = DatasetBuilder::default();
        for name in names {
            builder
                .add(Digest::of(&name.to_be_bytes()), name.to_be_bytes().to_vec())
                .unwrap();
        }
        builder.chunks().collect()
    }

    #[test]
    fn one_more_item_changes_one_chunk() {
        let names: Vec<u32> = (0..5000).collect();
        let (old, new) = (chunks(&names[1..]), chunks(&names));
        assert!(old.len() > 10);
        let changed = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!(changed <= 2, "{changed} chunks changed");
    }

    #[test]
    fn every_truncation_of_a_chunk_or_manifest_shows_in_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let items = (0..5_u8).map(|number| Item {
            id: Digest::of(&[number]),
            payload: vec![number; 9 * number as usize],
        });
        let chunk = Chunk {
            items: items.collect(),
        }
        .encode();
        let manifest = Manifest {
            chunks: vec![(Digest::of(b"a"), 3), (Digest::of(b"b"), 4)],
        }
        .encode();
        let matches = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            length_matches(&path, bytes.len() as u64).unwrap()
        };
        for bytes in [chunk, manifest] {
            assert!(matches(&bytes));
            for cut in 8..bytes.len() {
                assert!(!matches(&bytes[..cut]), "{cut}");
            }
            assert!(!matches(&[bytes.as_slice(), b"!"].concat()), "too long");
        }
        assert!(
            matches(b"anything else") && matches(b"short") && matches(b""),
            "other files have no length of their own"
        );
    }

    fn distinct_numbers() -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::btree_set(0_u32..10_000, 0..600)
            .prop_map(|numbers| numbers.into_iter().collect())
    }

    fn bytes(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..len_max)
    }

    proptest! {
        #[test]
        fn the_order_of_items_does_not_matter(mut numbers in distinct_numbers()) {
            let sorted = chunks(&numbers);
            numbers.reverse();
            prop_assert_eq!(sorted, chunks(&numbers));
        }

        #[test]
        fn random_bytes_are_errors(bytes in bytes(200)) {
            prop_assert!(Chunk::decode(&bytes).is_err());
            prop_assert!(Manifest::decode(&bytes).is_err());
        }

        #[test]
        fn chunks_round_trip(
            payloads in proptest::collection::vec(bytes(20), 0..20),
            cut in 0_usize..500,
        ) {
            let items = payloads
                .into_iter()
                .map(|payload| Item { id: Digest::of(&payload), payload })
                .collect();
            let chunk = Chunk { items };
            let bytes = chunk.encode();
            prop_assert_eq!(&Chunk::decode(&bytes).unwrap(), &chunk);
            if cut < bytes.len() {
                prop_assert!(Chunk::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
