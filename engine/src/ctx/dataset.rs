//! Datasets as a stage reads and writes them.

use super::StageCtx;
use crate::dataset::{Chunk, DatasetBuilder, Item, Manifest};
use crate::digest::Digest;
use crate::op::{Artifact, OpError, Output};

/// The items of a dataset, read chunk by chunk.
#[derive(Debug)]
pub struct Dataset<'a> {
    ctx: &'a StageCtx,
    manifest: Manifest,
}

impl StageCtx {
    /// Opens a dataset.
    ///
    /// # Errors
    /// As [`StageCtx::read`].
    pub fn dataset(&self, artifact: &Artifact) -> Result<Dataset<'_>, OpError> {
        let manifest = Manifest::decode(&self.read(&artifact.digest)?)?;
        Ok(Dataset {
            ctx: self,
            manifest,
        })
    }

    /// Begins a new dataset.
    pub fn dataset_writer(&self) -> DatasetWriter<'_> {
        DatasetWriter {
            ctx: self,
            gatherer: DatasetBuilder::default(),
        }
    }
}

impl Dataset<'_> {
    /// How many items there are.
    pub fn len(&self) -> u64 {
        self.manifest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.manifest.is_empty()
    }

    /// The items, ascending by id. A chunk that cannot be read is one error, and the items of the
    /// next chunk follow.
    pub fn items(&self) -> impl Iterator<Item = Result<Item, OpError>> {
        self.manifest
            .chunks
            .iter()
            .flat_map(|(digest, _)| match self.chunk(digest) {
                Ok(chunk) => chunk.items.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            })
    }

    /// The digests of the chunks, and how many items each has.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (Digest, u32)> {
        self.manifest.chunks.iter().copied()
    }

    pub(crate) fn chunk(&self, digest: &Digest) -> Result<Chunk, OpError> {
        Ok(Chunk::decode(&self.ctx.read(digest)?)?)
    }
}

/// Collects the items of a new dataset, in any order.
#[derive(Debug)]
pub struct DatasetWriter<'a> {
    ctx: &'a StageCtx,
    gatherer: DatasetBuilder,
}

impl DatasetWriter<'_> {
    /// Adds an item.
    ///
    /// # Errors
    /// [`OpError::Bug`] for a second item of the same id.
    pub fn add(&mut self, id: Digest, payload: Vec<u8>) -> Result<(), OpError> {
        Ok(self.gatherer.add(id, payload)?)
    }

    /// Stores the dataset.
    ///
    /// # Errors
    /// [`OpError::Disk`].
    pub fn finish(self) -> Result<Output, OpError> {
        let mut manifest = Manifest { chunks: Vec::new() };
        for chunk in self.gatherer.chunks() {
            let count =
                u32::try_from(chunk.items.len()).expect("chunks are bounded far below 2^32 items");
            let digest = self.ctx.put(&chunk.encode())?;
            manifest.chunks.push((digest, count));
        }
        let count = Some(manifest.len());
        let digest = self.ctx.put(&manifest.encode())?;
        Ok(Output {
            count,
            ..Output::of(digest)
        })
    }
}
