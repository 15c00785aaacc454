//! `read.scenes`: a generated world, rendered to real JPEG shards, for demos, tests and measuring
//! what a filter finds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use blip_data::scenes::{Generated, Texts, generate};
use blip_data::shard::ShardWriter;
use blip_data::{Caption, TextSource};
use blip_engine::{Digest, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};

use crate::images::{self, Place};
use crate::ordered::{Ordered, cores};
use crate::pairs::PairsWriter;
use crate::types::PAIRS;

/// Longest name of a split; it becomes part of every key.
const SPLIT_CHARS_MAX: usize = 40;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.scenes",
        PAIRS,
        "A generated world: pictures of coloured shapes with texts, of which a given share is wrong. What a picture really \
         shows is kept beside it, for measuring only. The pictures are JPEGs in webdataset shards, as a download's would be.",
    )
    .example("read.scenes(\"web\", count = 2000, mismatched = 0.3, junk = 0.1, seed = 7)")
    .arg(Arg::required("split", Type::Str, "Names the part of the world; no two splits share a picture."))
    .arg(Arg::required("count", Type::Int, "How many pictures there are.").within(1.0, 10_000_000.0))
    .arg(Arg::with_default("mismatched", Type::Float, "0.0", "The share of texts that describe another picture.").within(0.0, 1.0))
    .arg(Arg::with_default("junk", Type::Float, "0.0", "The share of texts that describe nothing.").within(0.0, 1.0))
    .arg(Arg::with_default(
        "style",
        Type::Choice(&["web", "human"]),
        "\"web\"",
        "How texts are written: in several ways, as on the web, or in one, as by an annotator.",
    ))
    .arg(Arg::with_default("side", Type::Int, "32", "The pictures' width and height in pixels.").within(8.0, 1024.0))
    .arg(Arg::with_default("shard", Type::Int, "1000", "How many pictures a shard holds.").within(1.0, 100_000.0).not_in_key())
    .arg(Arg::required("seed", Type::Int, "What the world is drawn from."));
    Op::run(signature, 2, run)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args();
    let split = checked_split(args.text("split")?)?.to_owned();
    let web = args.text("style")? == "web";
    let texts = Texts {
        web,
        mismatched: args.float("mismatched")?,
        junk: args.float("junk")?,
    };
    if texts.mismatched + texts.junk > 1.0 {
        let what = format!(
            "mismatched = {} and junk = {} are more than all texts",
            texts.mismatched, texts.junk
        );
        return Err(OpError::failed(
            what,
            "shares of the texts: together they are at most 1",
        ));
    }
    let (count, per_shard) = (args.count("count")?, args.count("shard")?.max(1));
    let side = u32::try_from(args.count("side")?)
        .map_err(|_| OpError::Bug("the side is out of range".to_owned()))?;
    let seed = args.int("seed")?.cast_unsigned();
    let source = if web {
        TextSource::Web
    } else {
        TextSource::Human
    };

    let mut made = Ordered::new(cores(), move |number| {
        Ok(generate(seed, &split, number, side, texts))
    });
    let (mut pairs, mut places) = (PairsWriter::default(), Vec::new());
    let mut asked = 0;
    for first in (0..count).step_by(usize::try_from(per_shard).unwrap_or(usize::MAX)) {
        let last = count.min(first + per_shard);
        let path = ctx.scratch().join(format!("{first}.tar"));
        let mut shard = Shard::create(path)?;
        for done in first..last {
            ctx.check_interrupted()?;
            while asked < count && made.waiting() < 64 * cores() as u64 {
                made.push(asked);
                asked += 1;
            }
            let sample = made
                .pop()
                .ok_or_else(|| OpError::Bug("a picture is missing".to_owned()))??;
            let image = shard.add(&sample)?;
            pairs.add(
                image,
                Caption::read(sample.text, source, sample.key),
                Some(sample.truth),
            );
            ctx.progress(done + 1, count, "images");
        }
        places.extend(shard.finish(ctx)?);
    }
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![images::publish(ctx, places)?],
        ..output
    })
}

fn checked_split(split: &str) -> Result<&str, OpError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !split.is_empty() && split.len() <= SPLIT_CHARS_MAX && split.chars().all(plain) {
        return Ok(split);
    }
    Err(OpError::failed(
        format!("`{}` is no name for a split", split.escape_debug()),
        format!(
            "use 1 to {SPLIT_CHARS_MAX} letters, digits, `-` and `_`: it begins every sample's key"
        ),
    ))
}

/// A shard that is being written.
struct Shard {
    path: PathBuf,
    writer: ShardWriter<BufWriter<File>>,
    /// Where every image begins, and its length.
    images: BTreeMap<Digest, (u64, u64)>,
}

impl Shard {
    fn create(path: PathBuf) -> Result<Self, OpError> {
        let file = File::create(&path).map_err(|error| unwritable(&error))?;
        Ok(Self {
            path,
            writer: ShardWriter::new(BufWriter::new(file)),
            images: BTreeMap::new(),
        })
    }

    fn add(&mut self, sample: &Generated) -> Result<Digest, OpError> {
        let image = Digest::of(&sample.jpeg);
        let offset = self
            .writer
            .add(&sample.key, "jpg", &sample.jpeg)
            .map_err(|error| unwritable(&error))?;
        self.writer
            .add(&sample.key, "txt", sample.text.as_bytes())
            .map_err(|error| unwritable(&error))?;
        self.images
            .insert(image, (offset, sample.jpeg.len() as u64));
        Ok(image)
    }

    /// Moves the shard into the cache and says where its images are.
    fn finish(self, ctx: &StageCtx) -> Result<Vec<Place>, OpError> {
        let written = self.writer.finish().and_then(|mut file| file.flush());
        written.map_err(|error| unwritable(&error))?;
        let file = ctx.put_file(&self.path)?;
        // When the object was there before, the scratch file stays behind: it is not needed twice.
        let _ = std::fs::remove_file(&self.path);
        let place = |(image, (offset, len))| Place {
            image,
            file,
            offset,
            len,
        };
        Ok(self.images.into_iter().map(place).collect())
    }
}

fn unwritable(error: &std::io::Error) -> OpError {
    OpError::failed(
        format!("could not write a shard into the cache: {error}"),
        "make room on the disk of the cache, then run again",
    )
}
