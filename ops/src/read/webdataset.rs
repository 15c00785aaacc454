//! `read.webdataset`: tar shards as webdataset and img2dataset write them.
//!
//! A shard is a unit of work, named by its content: replacing one of many reads only that one.
//! Every image is decoded once here, so that no later stage meets one that does not decode.

mod shard_reader;

use std::collections::BTreeMap;

use blip_engine::{Args, Digest, Files, InputFile, Op, OpError, Output, StageCtx, UnitResult};
use blip_grammar::{Arg, Signature, Type};

use self::shard_reader::{ShardContent, ShardSample, read_shard};
use super::budget::{self, BadSample};
use super::{SOURCES, parse_source};
use crate::image_store::{self, ImageLocation};
use crate::pairs::PairsWriter;
use crate::types::PAIRS;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.webdataset",
        PAIRS,
        "Images with texts from webdataset shards, such as img2dataset writes: tar files of \
         `key.jpg` with `key.txt`, or with `key.json` that has a `caption`. Every image is decoded \
         once; samples that cannot be used are rejected with a reason. Samples with the same image \
         become one image with several texts. Shards that `export … as webdataset` wrote are read \
         back with all provenance.",
    )
    .example("read.webdataset(\"data/web/*.tar\")")
    .arg(Arg::required(
        "shards",
        Type::Path,
        "The shards, as a pattern such as `data/*.tar`.",
    ))
    .arg(Arg::with_default(
        "source",
        SOURCES,
        "\"web\"",
        "Who wrote the texts, when the shards do \
                                                          not say.",
    ))
    .arg(budget::max_bad());
    Op::run(signature, 1, run).reading(sources)
}

fn sources(args: &Args, files: &Files<'_>) -> Result<Vec<InputFile>, OpError> {
    files.glob(args.path("shards")?)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    // Shards of the same content are read once.
    let mut shards: BTreeMap<Digest, &InputFile> = BTreeMap::new();
    for file in ctx.sources() {
        shards.entry(file.digest).or_insert(file);
    }
    let units = read_shards(ctx, &shards)?;

    let (mut pairs, mut locations) = (PairsWriter::default(), Vec::new());
    let (mut bad, mut good) = (Vec::new(), 0);
    for (file, unit) in shards.values().zip(units) {
        let content = decode_content(file, unit)?;
        for (key, reason) in content.rejected {
            let item = if key.is_empty() {
                file.name.clone()
            } else {
                format!("{}: {key}", file.name)
            };
            bad.push(BadSample { item, reason });
        }
        good += content.samples.len();
        for sample in content.samples {
            locations.push(ImageLocation {
                image: sample.image,
                file: file.digest,
                offset: sample.offset,
                len: sample.len,
            });
            let ShardSample { text, truth, .. } = sample;
            pairs.add(sample.image, text, truth);
        }
    }
    budget::reject(ctx, good, &bad)?;
    let notes = notes(ctx.sources().len() - shards.len(), good - pairs.images());
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![image_store::publish(ctx, locations)?],
        notes,
        ..output
    })
}

/// Reads the shards that are not cached and returns the results of all, ascending by digest.
fn read_shards(
    ctx: &StageCtx,
    shards: &BTreeMap<Digest, &InputFile>,
) -> Result<Vec<UnitResult>, OpError> {
    let source = parse_source(ctx.args().string("source")?)?;
    let digests: Vec<Digest> = shards.keys().copied().collect();
    let total: u64 = shards.values().map(|file| file.len).sum();
    let mut bytes_before = 0;
    ctx.map_units(&digests, 1, |positions| {
        let mut results = Vec::new();
        for position in positions {
            let digest = digests.get(*position);
            let Some(file) = digest.and_then(|digest| shards.get(digest)) else {
                continue;
            };
            let content = read_shard(ctx, file, source, &mut |offset| {
                ctx.progress((bytes_before + offset) >> 20, total >> 20, "MiB")
            })?;
            bytes_before += file.len;
            let bytes = serde_json::to_vec(&content).expect("texts and numbers are plain data");
            results.push(UnitResult::Ok(bytes));
        }
        Ok(results)
    })
}

fn decode_content(file: &InputFile, unit: UnitResult) -> Result<ShardContent, OpError> {
    match unit {
        UnitResult::Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            OpError::Bug(format!(
                "the stored content of {} cannot be read: {error}",
                file.name
            ))
        }),
        UnitResult::Bad(reason) => Ok(ShardContent {
            rejected: vec![(String::new(), reason)],
            ..ShardContent::default()
        }),
    }
}

fn notes(same_shards: usize, same_images: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if same_shards > 0 {
        notes.push(format!("{same_shards} duplicate shards were read once"));
    }
    if same_images > 0 {
        notes.push(format!(
            "{same_images} samples have the image of another sample: their texts were merged"
        ));
    }
    notes
}
