//! `read.webdataset`: tar shards as webdataset and img2dataset write them.
//!
//! A shard is a unit of work, named by its content: replacing one of many reads only that one.
//! Every image is decoded once here, so that no later stage meets one that does not decode.

mod notes;
mod shard_reader;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use blip_data::shard::{is_about_data, is_clutter};
use blip_engine::{Args, Digest, Files, InputFile, Op, OpError, Output, StageCtx, UnitResult};
use blip_grammar::{Arg, Signature, Type};

use self::notes::Notes;
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
         once; samples that cannot be used are rejected with a reason, and so are shards that end \
         early or are corrupt, beside the samples before that place. Hidden files, READMEs and \
         the like are skipped. Samples with the same image become one image with several texts. \
         Shards that `export … as webdataset` wrote are read back with all provenance.",
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
    Op::run(signature, 2, run).reading(sources)
}

/// Files that are no shards by their names stay among the sources, to be counted. Their names are
/// part of the key, since they decide.
fn sources(args: &Args, files: &Files<'_>) -> Result<Vec<InputFile>, OpError> {
    let pattern = args.path("shards")?;
    let files = files.glob(pattern)?;
    let named = |file: InputFile| {
        if is_no_shard(pattern, &file) {
            file.named()
        } else {
            file
        }
    };
    Ok(files.into_iter().map(named).collect())
}

/// Whether a file that a pattern has found is what systems leave beside data, or about it.
fn is_no_shard(pattern: &str, file: &InputFile) -> bool {
    let name = file.name.rsplit('/').next().unwrap_or(&file.name);
    let is_shard = name.to_lowercase().ends_with(".tar");
    file.name != pattern && (is_clutter(name) || (is_about_data(name) && !is_shard))
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    // Shards of the same content are read once.
    let mut shards: BTreeMap<Digest, &InputFile> = BTreeMap::new();
    let mut notes = Notes::default();
    let pattern = ctx.args().path("shards")?;
    for file in ctx.sources() {
        if is_no_shard(pattern, file) {
            notes.skipped_files.add(1, Some(&file.name));
            continue;
        }
        match shards.entry(file.digest) {
            Entry::Occupied(_) => notes.same_shards += 1,
            Entry::Vacant(entry) => {
                entry.insert(file);
            }
        }
    }
    let units = read_shards(ctx, &shards)?;

    let (mut pairs, mut locations) = (PairsWriter::default(), Vec::new());
    let (mut bad, mut bad_shards, mut good) = (Vec::new(), Vec::new(), 0);
    for (file, unit) in shards.values().zip(units) {
        let content = decode_content(file, unit)?;
        notes.add_shard(&file.name, &content);
        for (key, reason) in content.rejected {
            let item = format!("{}: {key}", file.name);
            bad.push(BadSample { item, reason });
        }
        for reason in content.shard_faults {
            let item = file.name.clone();
            bad_shards.push(BadSample { item, reason });
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
    budget::reject_shards(ctx, shards.len(), good, &bad_shards)?;
    budget::reject(ctx, good, &bad)?;
    notes.same_images = good - pairs.images();
    let notes = notes.lines();
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
    ctx.map_units(&digests, &[budget::MAX_BAD], 1, |positions| {
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
            shard_faults: vec![reason],
            ..ShardContent::default()
        }),
    }
}
