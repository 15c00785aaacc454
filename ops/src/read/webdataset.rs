//! `read.webdataset`: tar shards as webdataset and img2dataset write them.
//!
//! A shard is a unit of work, named by its content: replacing one of many reads only that one.
//! Every image is decoded once here, so that no later stage meets one that does not decode.

mod notes;
mod shard_reader;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use blip_data::shard::{Members, is_about_data, is_clutter};
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
    .arg(Arg::optional(
        "image",
        Type::Str,
        "The suffix of the image, such as `input.jpg`, when it is an unusual one or there are \
             several images; by default the only image.",
    ))
    .arg(Arg::optional(
        "caption",
        Type::Str,
        "Where the caption is: a suffix, such as `alt.txt`, or a field of a JSON member, \
             `json.FIELD`; by default `txt`, else `json.caption`.",
    ))
    .arg(budget::max_bad());
    Op::run(signature, 3, run).reading(sources)
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
    let members = members(ctx.args())?;
    let units = read_shards(ctx, &members, &shards)?;

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
    budget::reject(ctx, good, &bad, help(&bad))?;
    notes.same_images = good - pairs.images();
    let notes = notes.lines();
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![image_store::publish(ctx, locations)?],
        notes,
        ..output
    })
}

fn members(args: &Args) -> Result<Members, OpError> {
    let image = args.optional_string("image")?;
    let caption = args.optional_string("caption")?;
    Members::new(image.as_deref(), caption.as_deref()).map_err(|(argument, reason)| {
        let given = if argument == "image" { image } else { caption };
        let what = format!("`{argument} = {:?}` {reason}", given.unwrap_or_default());
        OpError::failed(what, MEMBERS_HELP)
    })
}

const MEMBERS_HELP: &str = "name the members: `image = \"jpg\"`, `caption = \"txt\"` or, for a \
                            field of a JSON member, `caption = \"json.FIELD\"`";

/// What to do about a dataset all of whose samples are bad: of samples without an image or a text
/// that this op can see, it has to be said which member is meant.
fn help(bad: &[BadSample]) -> &'static str {
    let is_about_members = |reason: &str| {
        let parts = [" has no ", "it has several images", "it has neither "];
        parts.iter().any(|part| reason.contains(part))
    };
    let mut bad = bad.iter();
    if bad.any(|BadSample { reason, .. }| is_about_members(reason)) {
        MEMBERS_HELP
    } else {
        budget::SAMPLE_HELP
    }
}

/// Reads the shards that are not cached and returns the results of all, ascending by digest.
fn read_shards(
    ctx: &StageCtx,
    members: &Members,
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
            let content = read_shard(ctx, file, members, source, &mut |offset| {
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
