//! `read.scenes`: a generated dataset, rendered to real JPEG shards, for demos, tests and measuring
//! what a filter finds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use blip_data::scenes::{CaptionStyle, Generated, generate};
use blip_data::shard::ShardWriter;
use blip_data::{Caption, TextSource};
use blip_engine::cache::disk::limit_help;
use blip_engine::{Args, Digest, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};

use crate::image_store::{self, ImageLocation};
use crate::ordered_pool::{OrderedPool, cores};
use crate::pairs::PairsWriter;
use crate::types::PAIRS;

/// Longest name of a split; every sample's key begins with it.
const SPLIT_CHARS_MAX: usize = 40;
/// Images generated ahead of the one that is written: enough that no thread waits for the disk.
const IN_FLIGHT_PER_CORE: u64 = 64;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.scenes",
        PAIRS,
        "A generated dataset: images of coloured shapes with texts, of which a given fraction is \
         wrong. What an image really shows is kept as ground truth, for evaluation only. The \
         images are JPEGs in webdataset shards, like a download.",
    )
    .example("read.scenes(\"web\", count = 2000, mismatched = 0.3, junk = 0.1, seed = 7)")
    .arg(Arg::required(
        "split",
        Type::Str,
        "Name of the split; no two splits share an image.",
    ))
    .arg(Arg::required("count", Type::Int, "Number of images.").within(1.0, 10_000_000.0))
    .arg(
        Arg::with_default(
            "mismatched",
            Type::Float,
            "0.0",
            "Fraction of texts that describe \
                                                              another image.",
        )
        .within(0.0, 1.0),
    )
    .arg(
        Arg::with_default(
            "junk",
            Type::Float,
            "0.0",
            "Fraction of texts that describe nothing.",
        )
        .within(0.0, 1.0),
    )
    .arg(Arg::with_default(
        "style",
        Type::Choice(&["web", "human"]),
        "\"web\"",
        "How texts are written: in varied wordings, as on the web, or in one wording, as by an \
         annotator.",
    ))
    .arg(
        Arg::with_default(
            "side",
            Type::Int,
            "32",
            "Width and height of the images in pixels.",
        )
        .within(8.0, 1024.0),
    )
    .arg(
        Arg::with_default("shard", Type::Int, "1000", "Number of images per shard.")
            .within(1.0, 100_000.0)
            .not_in_key(),
    )
    .arg(Arg::required("seed", Type::Int, "Seed of the dataset."));
    Op::run(signature, 2, run)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args();
    let split = checked_split(args.string("split")?)?.to_owned();
    let texts = text_settings(args)?;
    let count = args.count("count")?;
    let per_shard = args.count("shard")?.max(1);
    let side = u32::try_from(args.count("side")?)
        .map_err(|_| OpError::Bug("the side is out of range".to_owned()))?;
    let seed = args.int("seed")?.cast_unsigned();
    let source = if texts.web {
        TextSource::Web
    } else {
        TextSource::Human
    };

    let mut pool = OrderedPool::new(cores(), move |number| {
        Ok(generate(seed, &split, number, side, texts))
    })?;
    let in_flight_max = IN_FLIGHT_PER_CORE * cores() as u64;
    let (mut pairs, mut locations) = (PairsWriter::default(), Vec::new());
    let mut requested = 0;
    for first in (0..count).step_by(usize::try_from(per_shard).unwrap_or(usize::MAX)) {
        let last = count.min(first + per_shard);
        let mut shard = Shard::create(ctx.scratch().join(format!("{first}.tar")))?;
        for done in first..last {
            ctx.check_interrupted()?;
            while requested < count && pool.in_flight() < in_flight_max {
                pool.push(requested);
                requested += 1;
            }
            let sample = pool
                .pop()
                .ok_or_else(|| OpError::Bug("a generated image is missing".to_owned()))??;
            let image = shard.add(&sample)?;
            let text = Caption::new(sample.text, source, sample.key);
            pairs.add(image, text, Some(sample.ground_truth));
            ctx.progress(done + 1, count, "images");
        }
        locations.extend(shard.finish(ctx)?);
    }
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![image_store::publish(ctx, locations)?],
        ..output
    })
}

fn text_settings(args: &Args) -> Result<CaptionStyle, OpError> {
    let texts = CaptionStyle {
        web: args.string("style")? == "web",
        mismatched: args.float("mismatched")?,
        junk: args.float("junk")?,
    };
    if texts.mismatched + texts.junk > 1.0 {
        let what = format!(
            "mismatched = {} and junk = {} add up to more than 1",
            texts.mismatched, texts.junk
        );
        return Err(OpError::failed(
            what,
            "they are fractions of all texts: lower one of them",
        ));
    }
    Ok(texts)
}

fn checked_split(split: &str) -> Result<&str, OpError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !split.is_empty() && split.len() <= SPLIT_CHARS_MAX && split.chars().all(allowed) {
        return Ok(split);
    }
    Err(OpError::failed(
        format!("`{}` is not a valid split name", split.escape_debug()),
        format!(
            "use 1 to {SPLIT_CHARS_MAX} letters, digits, `-` and `_`: every sample's key begins \
             with it"
        ),
    ))
}

/// A shard that is being written.
struct Shard {
    path: PathBuf,
    writer: ShardWriter<BufWriter<File>>,
    /// Offset and length of every image.
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

    /// Moves the shard into the cache and returns where its images are.
    fn finish(self, ctx: &StageCtx) -> Result<Vec<ImageLocation>, OpError> {
        let written = self.writer.finish().and_then(|mut file| file.flush());
        written.map_err(|error| unwritable(&error))?;
        let file = ctx.put_file(&self.path)?;
        // When the cache has the object already, the scratch file stays behind and takes space.
        let _ = std::fs::remove_file(&self.path);
        let location = |(image, (offset, len))| ImageLocation {
            image,
            file,
            offset,
            len,
        };
        Ok(self.images.into_iter().map(location).collect())
    }
}

fn unwritable(error: &std::io::Error) -> OpError {
    OpError::failed(
        format!("could not write a shard into the cache: {error}"),
        limit_help(error).unwrap_or("check the cache's disk, then run again"),
    )
}
