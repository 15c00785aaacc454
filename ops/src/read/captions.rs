//! `read.captions`: captions lists in BLIP's and COCO's formats, with the images as files.

use std::collections::BTreeMap;
use std::path::Path;

use blip_data::Caption;
use blip_data::captions::{self, CaptionList, CaptionedImage};
use blip_data::decode::decode;
use blip_engine::{Args, Digest, Files, InputFile, Op, OpError, Output, StageCtx, UnitResult};
use blip_grammar::{Arg, Signature, Type};

use super::budget::{self, BadSample};
use super::{SOURCES, parse_source};
use crate::image_store::{self, ImageLocation};
use crate::ordered_pool::{OrderedPool, cores};
use crate::pairs::PairsWriter;
use crate::types::PAIRS;

/// Images decoded between two commits.
const BATCH: usize = 256;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.captions",
        PAIRS,
        "Images with captions from a JSON list: BLIP's (`[{\"image\": path, \"caption\": text or \
         texts}]`) or COCO's captions (`{\"images\", \"annotations\"}`). The images are files. \
         Every image is decoded once; those that cannot be used are rejected with a reason.",
    )
    .example("read.captions(\"data/coco/captions.json\", images = \"data/coco\")")
    .arg(Arg::required("list", Type::Path, "The list."))
    .arg(Arg::optional(
        "images",
        Type::Path,
        "The folder that the paths in the list are relative to; the list's own folder by default.",
    ))
    .arg(Arg::with_default(
        "source",
        SOURCES,
        "\"human\"",
        "Who wrote the captions.",
    ))
    .arg(budget::max_bad());
    Op::run(signature, 1, run).reading(sources)
}

/// The list first, then every image of it that exists. The list refers to images by name, so their
/// names, as the list has them, are part of the key: two exchanged files are another dataset.
fn sources(args: &Args, files: &Files<'_>) -> Result<Vec<InputFile>, OpError> {
    let list = files.file(args.path("list")?)?;
    let mut sources = vec![list.clone()];
    for CaptionedImage { image, .. } in parse_list(&list, &list.read()?)?.entries {
        let path = image_folder(args)?.join(&image);
        // A missing or unreadable image is a bad sample, not the end of the stage.
        if let Ok(file) = files.file(&path.to_string_lossy()) {
            let file = InputFile {
                name: image,
                ..file
            };
            sources.push(file.named());
        }
    }
    Ok(sources)
}

fn image_folder(args: &Args) -> Result<&Path, OpError> {
    if args.given("images")? {
        return Ok(Path::new(args.path("images")?));
    }
    let list = Path::new(args.path("list")?);
    Ok(list.parent().unwrap_or(Path::new("")))
}

fn parse_list(list: &InputFile, bytes: &[u8]) -> Result<CaptionList, OpError> {
    captions::read(bytes).map_err(|error| {
        OpError::failed(
            format!("{} is not a captions list: {error}", list.path.display()),
            "use BLIP's format, `[{\"image\": path, \"caption\": text}]`, or COCO's captions",
        )
    })
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let source = parse_source(ctx.args().string("source")?)?;
    let (list_file, images) = ctx
        .sources()
        .split_first()
        .ok_or_else(|| OpError::Bug("the list is not among the sources".to_owned()))?;
    let bytes = list_file.read()?;
    let CaptionList {
        entries,
        rejected: faults,
    } = parse_list(list_file, &bytes)?;
    let mut files: BTreeMap<&str, &InputFile> = BTreeMap::new();
    for file in images {
        files.insert(&file.name, file);
    }
    let undecodable = decode_all(ctx, images)?;

    let (mut pairs, mut locations) = (PairsWriter::default(), Vec::new());
    let mut good = 0;
    let mut bad: Vec<BadSample> = faults
        .into_iter()
        .map(|(item, reason)| BadSample { item, reason })
        .collect();
    for CaptionedImage { image, captions } in entries {
        let file = match files.get(image.as_str()) {
            Some(file) => *file,
            None => {
                let reason = "the file is missing or cannot be read".to_owned();
                bad.push(BadSample {
                    item: image,
                    reason,
                });
                continue;
            }
        };
        if let Some(reason) = undecodable.get(&file.digest) {
            bad.push(BadSample {
                item: image,
                reason: reason.clone(),
            });
            continue;
        }
        locations.push(ImageLocation {
            image: file.digest,
            file: file.digest,
            offset: 0,
            len: file.len,
        });
        good += captions.len();
        for text in captions {
            let text = Caption::new(text, source, image.clone());
            pairs.add(file.digest, text, None);
        }
    }
    budget::reject(ctx, good, &bad)?;
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![image_store::publish(ctx, locations)?],
        ..output
    })
}

/// Decodes every image once and returns why some cannot be used.
fn decode_all(ctx: &StageCtx, images: &[InputFile]) -> Result<BTreeMap<Digest, String>, OpError> {
    let mut files: BTreeMap<Digest, &InputFile> = BTreeMap::new();
    for file in images {
        files.insert(file.digest, file);
    }
    let digests: Vec<Digest> = files.keys().copied().collect();
    let mut done = 0;
    let units = ctx.map_units(&digests, BATCH, |positions| {
        let mut pool = OrderedPool::new(cores(), check);
        for position in positions {
            let file = digests.get(*position).and_then(|digest| files.get(digest));
            if let Some(file) = file {
                pool.push((*file).clone());
            }
        }
        let mut results = Vec::new();
        while let Some(result) = pool.pop() {
            ctx.check_interrupted()?;
            results.push(result?);
            done += 1;
            ctx.progress(done, digests.len() as u64, "images");
        }
        Ok(results)
    })?;
    let mut undecodable = BTreeMap::new();
    for (digest, unit) in digests.into_iter().zip(units) {
        if let UnitResult::Bad(reason) = unit {
            undecodable.insert(digest, reason);
        }
    }
    Ok(undecodable)
}

fn check(file: InputFile) -> Result<UnitResult, OpError> {
    let bytes = file.read()?;
    Ok(match decode(&bytes) {
        Ok(_) => UnitResult::Ok(Vec::new()),
        Err(error) => UnitResult::Bad(format!("the image is {error}")),
    })
}
