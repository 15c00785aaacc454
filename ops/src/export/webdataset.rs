//! `export … as webdataset`: tar shards that the webdataset library, Hugging Face datasets and
//! `read.webdataset` read.
//!
//! A sample for each text: the image, `.txt` with the text, `.json` with its [`Row`]. Images keep
//! their bytes, so what is read back has the same digests. Hugging Face datasets refuses shards
//! whose samples differ in their suffixes, so there is one image suffix, that of the most frequent
//! format; readers go by the content of an image, not by its name.

mod shard_names;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use blip_data::decode;
use blip_data::shard::ShardWriter;
use blip_engine::{Artifact, ExportOp, ExportSummary, ExportTarget, OpError, StageCtx};
use blip_grammar::ExportFormat;

use self::shard_names::ShardNames;
use super::unwritable;
use crate::image_store::ImageStore;
use crate::pairs::for_each_sample;
use crate::row::Row;
use crate::types::PAIRS;

/// A shard ends after this many samples…
const SHARD_SAMPLES: usize = 10_000;
/// …or this many bytes.
const SHARD_BYTES: u64 = 1 << 30;
/// Digits of an image's digest in a key.
const KEY_DIGITS: usize = 16;

pub(crate) fn format() -> ExportOp {
    ExportOp {
        format: ExportFormat {
            name: "webdataset",
            accepts: &[PAIRS],
            doc: "Tar shards: where the path has `{shard:05}`, numbered ones of at most 10,000 \
                  samples or 1 GiB, else one. A sample for each text: the image with its original bytes, `.txt` \
                  with the text, `.json` with its provenance and score. All images have the suffix \
                  of the most frequent format.",
        },
        version: 1,
        run: std::sync::Arc::new(run),
    }
}

fn run(
    ctx: &StageCtx,
    artifact: &Artifact,
    target: &ExportTarget,
) -> Result<ExportSummary, OpError> {
    let names = ShardNames::parse(&target.name)?;
    let images = ImageStore::of_upstream(ctx)?;
    let suffix = image_suffix(ctx, artifact, &images)?;
    let mut shards = Shards {
        names,
        folder: target.folder.clone(),
        current: None,
        number: 0,
        in_shard: 0,
        count: 0,
    };
    for_each_sample(ctx, artifact, |image, sample| {
        let bytes = images.bytes(&image)?;
        let digits: String = image.to_string().chars().take(KEY_DIGITS).collect();
        for (number, text) in sample.texts.iter().enumerate() {
            let row = Row::new(&image, text, sample.ground_truth.as_ref());
            shards.add(&format!("{digits}-{number}"), suffix, &bytes, &row)?;
        }
        Ok(())
    })?;
    shards.close()?;
    if shards.count == 0 {
        let what = format!("`{}` has no pairs to export", artifact.stage);
        return Err(OpError::failed(
            what,
            "readers refuse empty shards: check why the dataset is empty",
        ));
    }
    Ok(ExportSummary {
        count: Some(shards.count),
    })
}

/// The suffix of all images: that of the most frequent format; of equally frequent ones the first
/// by name.
fn image_suffix(
    ctx: &StageCtx,
    artifact: &Artifact,
    images: &ImageStore,
) -> Result<&'static str, OpError> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for_each_sample(ctx, artifact, |image, _| {
        let bytes = images.bytes(&image)?;
        // Every image was decoded when it was read, so its format is known.
        let suffix = decode::suffix(&bytes).unwrap_or("jpg");
        *counts.entry(suffix).or_default() += 1;
        Ok(())
    })?;
    // Reversed, since `max_by_key` returns the last of equal ones.
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    Ok(most.map_or("jpg", |(suffix, _)| suffix))
}

/// The shards of an export, written one after the other.
struct Shards {
    names: ShardNames,
    folder: PathBuf,
    current: Option<OpenShard>,
    /// The number of the next shard.
    number: u64,
    /// Samples in the current shard.
    in_shard: usize,
    /// Samples in all shards.
    count: u64,
}

struct OpenShard {
    path: PathBuf,
    writer: ShardWriter<BufWriter<File>>,
}

impl OpenShard {
    fn create(path: PathBuf) -> Result<Self, OpError> {
        let file = File::create(&path).map_err(|error| unwritable(&path, &error))?;
        let writer = ShardWriter::new(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { path, writer })
    }

    fn finish(self) -> Result<(), OpError> {
        let Self { path, writer } = self;
        let flushed = writer.finish().and_then(|mut file| file.flush());
        flushed.map_err(|error| unwritable(&path, &error))
    }
}

impl Shards {
    fn add(&mut self, key: &str, suffix: &str, image: &[u8], row: &Row) -> Result<(), OpError> {
        if self.is_full() && self.names.are_numbered() {
            self.close()?;
        }
        let shard = match &mut self.current {
            Some(shard) => shard,
            None => {
                let path = self.folder.join(self.names.name(self.number));
                self.number += 1;
                self.current.insert(OpenShard::create(path)?)
            }
        };
        let json = serde_json::to_vec(row).expect("a row is plain data");
        let members: [(&str, &[u8]); 3] = [
            (suffix, image),
            ("txt", row.caption.as_bytes()),
            ("json", &json),
        ];
        for (suffix, bytes) in members {
            shard
                .writer
                .add(key, suffix, bytes)
                .map_err(|error| unwritable(&shard.path, &error))?;
        }
        self.in_shard += 1;
        self.count += 1;
        Ok(())
    }

    fn is_full(&self) -> bool {
        let bytes = match &self.current {
            Some(shard) => shard.writer.bytes(),
            None => 0,
        };
        self.in_shard >= SHARD_SAMPLES || bytes >= SHARD_BYTES
    }

    fn close(&mut self) -> Result<(), OpError> {
        self.in_shard = 0;
        match self.current.take() {
            Some(shard) => shard.finish(),
            None => Ok(()),
        }
    }
}
