//! `read.webdataset`: tar shards as webdataset and img2dataset write them.
//!
//! A shard is a unit of work, named by its content: replacing one of many reads that one only.
//! Every image is decoded once here, so that no later stage meets one that does not.

use std::collections::{BTreeMap, VecDeque};

use blip_data::decode::decode;
use blip_data::shard::{self, Fault, RawSample};
use blip_data::{Caption, TextSource};
use blip_engine::{Args, Digest, Files, Op, OpError, Output, SourceFile, StageCtx, UnitResult};
use blip_grammar::{Arg, Signature, Type};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::budget::{self, Bad};
use super::{SOURCES, source};
use crate::images::{self, Place};
use crate::ordered::{Ordered, cores};
use crate::pairs::PairsWriter;
use crate::row::Row;
use crate::types::PAIRS;

/// Images that wait for a thread to decode them hold at most this many bytes together, one image
/// always fits.
const WAITING_BYTES: usize = 128 << 20;
/// And are at most this many.
const WAITING_MAX: usize = 1024;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.webdataset",
        PAIRS,
        "Images with texts from webdataset shards, such as img2dataset writes: tar files of `key.jpg` with `key.txt`, or \
         with `key.json` that has a `caption`. Every image is decoded once; samples that cannot be used are put aside with \
         a reason. The same image in several samples is one image with several texts. What `export … as webdataset` wrote \
         comes back with everything that was known of it.",
    )
    .example("read.webdataset(\"data/web/*.tar\")")
    .arg(Arg::required("shards", Type::Path, "The shards, as a pattern such as `data/*.tar`."))
    .arg(Arg::with_default("source", SOURCES, "\"web\"", "Who wrote the texts, where the shards do not say."))
    .arg(budget::max_bad());
    Op::run(signature, 1, run).reading(sources)
}

fn sources(args: &Args, files: &Files<'_>) -> Result<Vec<SourceFile>, OpError> {
    files.glob(args.path("shards")?)
}

/// What a shard gives: the result of its unit of work. Without its name, which may change.
#[derive(Default, Serialize, Deserialize)]
struct ShardContent {
    samples: Vec<Found>,
    /// Keys and reasons.
    faults: Vec<(String, String)>,
}

/// A sample of a shard.
#[derive(Serialize, Deserialize)]
struct Found {
    image: Digest,
    offset: u64,
    len: u64,
    text: Caption,
    truth: Option<Value>,
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let source = source(ctx.args().text("source")?)?;
    // Two shards of the same content are one.
    let mut shards: BTreeMap<Digest, &SourceFile> = BTreeMap::new();
    for file in ctx.sources() {
        shards.entry(file.digest).or_insert(file);
    }
    let digests: Vec<Digest> = shards.keys().copied().collect();
    let total: u64 = shards.values().map(|file| file.len).sum();
    let mut before = 0;
    let units = ctx.map_units(&digests, 1, |places| {
        let file = |place: &usize| {
            digests
                .get(*place)
                .and_then(|digest| shards.get(digest))
                .copied()
        };
        let mut results = Vec::new();
        for file in places.iter().filter_map(file) {
            let content = read_shard(ctx, file, source, &mut |at| {
                ctx.progress((before + at) >> 20, total >> 20, "MiB")
            })?;
            before += file.len;
            let bytes = serde_json::to_vec(&content).expect("texts and numbers are plain data");
            results.push(UnitResult::Ok(bytes));
        }
        Ok(results)
    })?;

    let (mut pairs, mut places, mut bad, mut good) =
        (PairsWriter::default(), Vec::new(), Vec::new(), 0);
    for (file, unit) in shards.values().zip(units) {
        let content = match unit {
            UnitResult::Ok(bytes) => {
                serde_json::from_slice::<ShardContent>(&bytes).map_err(|error| {
                    OpError::Bug(format!(
                        "what {} gave cannot be read again: {error}",
                        file.name
                    ))
                })?
            }
            UnitResult::Bad(reason) => ShardContent {
                faults: vec![(String::new(), reason)],
                ..ShardContent::default()
            },
        };
        for (key, reason) in content.faults {
            let item = if key.is_empty() {
                file.name.clone()
            } else {
                format!("{}: {key}", file.name)
            };
            bad.push(Bad { item, reason });
        }
        good += content.samples.len();
        for Found {
            image,
            offset,
            len,
            text,
            truth,
        } in content.samples
        {
            places.push(Place {
                image,
                file: file.digest,
                offset,
                len,
            });
            pairs.add(image, text, truth);
        }
    }
    budget::reject(ctx, good, &bad)?;
    let notes = notes(ctx.sources().len() - shards.len(), good - pairs.images());
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![images::publish(ctx, places)?],
        notes,
        ..output
    })
}

fn notes(same_shards: usize, same_images: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if same_shards > 0 {
        notes.push(format!(
            "{same_shards} shards have the same content as others and were read once"
        ));
    }
    if same_images > 0 {
        notes.push(format!(
            "{same_images} samples show an image that another one has: their texts are united"
        ));
    }
    notes
}

/// Reads a shard: this thread takes the tar apart, others decode.
fn read_shard(
    ctx: &StageCtx,
    file: &SourceFile,
    source: TextSource,
    progress: &mut dyn FnMut(u64),
) -> Result<ShardContent, OpError> {
    let mut decoding = Decoding {
        checked: Ordered::new(cores(), move |sample: RawSample| Ok(check(sample, source))),
        sizes: VecDeque::new(),
        content: ShardContent::default(),
    };
    let mut faults = Vec::new();
    let read = shard::read(&file.path, |sample| {
        ctx.check_interrupted()?;
        match sample {
            Ok(sample) => {
                progress(sample.offset);
                decoding.push(sample)
            }
            Err(Fault { key, reason }) => {
                faults.push((key, reason));
                Ok(())
            }
        }
    });
    read.map_err(|error| {
        let what = format!("could not read {}: {error}", file.path.display());
        OpError::failed(what, "check the file and the disk it is on")
    })??;
    let mut content = decoding.finish(ctx)?;
    content.faults.extend(faults);
    Ok(content)
}

/// The samples of a shard that are being decoded.
struct Decoding {
    checked: Ordered<RawSample, Checked>,
    /// The bytes of the images under way.
    sizes: VecDeque<usize>,
    content: ShardContent,
}

impl Decoding {
    /// Takes a sample; waits while too many bytes are under way.
    fn push(&mut self, sample: RawSample) -> Result<(), OpError> {
        while !self.sizes.is_empty()
            && self.sizes.iter().sum::<usize>() + sample.image.len() > WAITING_BYTES
        {
            self.pop()?;
        }
        if self.sizes.len() >= WAITING_MAX {
            self.pop()?;
        }
        self.sizes.push_back(sample.image.len());
        self.checked.push(sample);
        Ok(())
    }

    fn pop(&mut self) -> Result<(), OpError> {
        self.sizes.pop_front();
        match self.checked.pop().transpose()? {
            Some(Ok(found)) => self.content.samples.push(found),
            Some(Err(fault)) => self.content.faults.push(fault),
            None => {}
        }
        Ok(())
    }

    fn finish(mut self, ctx: &StageCtx) -> Result<ShardContent, OpError> {
        while self.checked.waiting() > 0 {
            ctx.check_interrupted()?;
            self.pop()?;
        }
        Ok(self.content)
    }
}

/// A sample that can be used, or its key and why it cannot.
type Checked = Result<Found, (String, String)>;

fn check(sample: RawSample, source: TextSource) -> Checked {
    let RawSample {
        key,
        offset,
        image,
        text,
        json,
    } = sample;
    if let Err(error) = decode(&image) {
        return Err((key, format!("its image is {error}")));
    }
    // A row tells the story of its caption; a `.txt` that says something else has none.
    let row = json
        .as_ref()
        .and_then(Row::recognize)
        .transpose()
        .map_err(|reason| (key.clone(), reason))?;
    let (text, truth) = match row {
        Some(row) if row.caption == text => row.into_text(),
        Some(row) => (Caption::read(text, source, key), row.truth),
        None => (Caption::read(text, source, key), None),
    };
    Ok(Found {
        image: Digest::of(&image),
        offset,
        len: image.len() as u64,
        text,
        truth,
    })
}
