//! `read.captions`: lists of captions as BLIP and COCO have them, with the images as files.

use std::collections::BTreeMap;
use std::path::Path;

use blip_data::Caption;
use blip_data::captions::{self, Entry, List};
use blip_data::decode::decode;
use blip_engine::{Args, Digest, Files, Op, OpError, Output, SourceFile, StageCtx, UnitResult};
use blip_grammar::{Arg, Signature, Type};

use super::budget::{self, Bad};
use super::{SOURCES, source};
use crate::images::{self, Place};
use crate::ordered::{Ordered, cores};
use crate::pairs::PairsWriter;
use crate::types::PAIRS;

/// Images decoded between two commits.
const BATCH: usize = 256;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.captions",
        PAIRS,
        "Images with captions from a JSON list: BLIP's (`[{\"image\": path, \"caption\": text or texts}]`) or COCO's captions \
         (`{\"images\", \"annotations\"}`). The images are files; every one is decoded once, and those that cannot be used \
         are put aside with a reason.",
    )
    .example("read.captions(\"data/coco/captions.json\", images = \"data/coco\")")
    .arg(Arg::required("list", Type::Path, "The list."))
    .arg(Arg::optional("images", Type::Path, "The folder that the list's paths start from; without it, the list's own."))
    .arg(Arg::with_default("source", SOURCES, "\"human\"", "Who wrote the captions."))
    .arg(budget::max_bad());
    Op::run(signature, 1, run).reading(sources)
}

/// The list first, then every image of it that is there. Which caption belongs to which file is
/// said by name, so the names of images, as the list has them, are part of the key.
fn sources(args: &Args, files: &Files<'_>) -> Result<Vec<SourceFile>, OpError> {
    let list = files.file(args.path("list")?)?;
    let mut sources = vec![list.clone()];
    for Entry { image, .. } in parse(&list, &files.read(&list)?)?.entries {
        let path = folder(args)?.join(&image);
        // One that is missing, or no file, or cannot be read is a bad sample, not the end of the
        // stage.
        if let Ok(file) = files.file(&path.to_string_lossy()) {
            sources.push(
                SourceFile {
                    name: image,
                    ..file
                }
                .named(),
            );
        }
    }
    Ok(sources)
}

fn folder(args: &Args) -> Result<&Path, OpError> {
    if args.given("images")? {
        return Ok(Path::new(args.path("images")?));
    }
    Ok(Path::new(args.path("list")?)
        .parent()
        .unwrap_or(Path::new("")))
}

fn parse(list: &SourceFile, bytes: &[u8]) -> Result<List, OpError> {
    captions::read(bytes).map_err(|error| {
        OpError::failed(
            format!("{} is no list of captions: {error}", list.path.display()),
            "give BLIP's list, `[{\"image\": path, \"caption\": text}]`, or COCO's captions",
        )
    })
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let source = source(ctx.args().text("source")?)?;
    let (list_file, images) = ctx
        .sources()
        .split_first()
        .ok_or_else(|| OpError::Bug("the list is no source".to_owned()))?;
    let bytes = std::fs::read(&list_file.path).map_err(|error| {
        OpError::failed(
            format!("could not read {}: {error}", list_file.path.display()),
            "make the list readable",
        )
    })?;
    let List { entries, faults } = parse(list_file, &bytes)?;
    let files: BTreeMap<&str, &SourceFile> = images
        .iter()
        .map(|file| (file.name.as_str(), file))
        .collect();
    let reasons = decode_all(ctx, images)?;

    let (mut pairs, mut places, mut good) = (PairsWriter::default(), Vec::new(), 0);
    let mut bad: Vec<Bad> = faults
        .into_iter()
        .map(|(item, reason)| Bad { item, reason })
        .collect();
    for Entry { image, captions } in entries {
        let file = files.get(image.as_str());
        let reason = match file.map(|file| reasons.get(&file.digest)) {
            None => Some("there is no such file that can be read".to_owned()),
            Some(reason) => reason.cloned(),
        };
        if let (Some(file), None) = (file, &reason) {
            places.push(Place {
                image: file.digest,
                file: file.digest,
                offset: 0,
                len: file.len,
            });
            good += captions.len();
            captions.into_iter().for_each(|text| {
                pairs.add(
                    file.digest,
                    Caption::read(text, source, image.clone()),
                    None,
                )
            });
        } else {
            bad.extend(reason.map(|reason| Bad {
                item: image,
                reason,
            }));
        }
    }
    budget::reject(ctx, good, &bad)?;
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![images::publish(ctx, places)?],
        ..output
    })
}

/// Decodes every image once; gives the reasons of those that cannot be used.
fn decode_all(ctx: &StageCtx, images: &[SourceFile]) -> Result<BTreeMap<Digest, String>, OpError> {
    let files: BTreeMap<Digest, &SourceFile> =
        images.iter().map(|file| (file.digest, file)).collect();
    let digests: Vec<Digest> = files.keys().copied().collect();
    let mut done = 0;
    let units = ctx.map_units(&digests, BATCH, |places| {
        let mut checked = Ordered::new(cores(), check);
        let file = |place: &usize| digests.get(*place).and_then(|digest| files.get(digest));
        places
            .iter()
            .filter_map(file)
            .for_each(|file| checked.push((*file).clone()));
        let mut results = Vec::new();
        while let Some(result) = checked.pop() {
            ctx.check_interrupted()?;
            results.push(result?);
            done += 1;
            ctx.progress(done, digests.len() as u64, "images");
        }
        Ok(results)
    })?;
    let bad = digests
        .into_iter()
        .zip(units)
        .filter_map(|(digest, unit)| match unit {
            UnitResult::Ok(_) => None,
            UnitResult::Bad(reason) => Some((digest, reason)),
        });
    Ok(bad.collect())
}

fn check(file: SourceFile) -> Result<UnitResult, OpError> {
    let bytes = std::fs::read(&file.path).map_err(|error| {
        OpError::failed(
            format!("could not read {}: {error}", file.path.display()),
            "check the file and the disk it is on",
        )
    })?;
    if Digest::of(&bytes) != file.digest {
        let what = format!("{} changed while it was read", file.path.display());
        return Err(OpError::failed(
            what,
            "run again when nothing writes to it any more",
        ));
    }
    Ok(match decode(&bytes) {
        Ok(_) => UnitResult::Ok(Vec::new()),
        Err(error) => UnitResult::Bad(format!("the image is {error}")),
    })
}
