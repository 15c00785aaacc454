//! `read.captions`: captions lists in BLIP's and COCO's formats, with the images as files.

use std::collections::BTreeMap;
use std::path::Path;

use blip_data::Caption;
use blip_data::captions::{self, CaptionList, CaptionedImage, FieldNames, ListError};
use blip_data::decode::decode;
use blip_data::shard::IMAGE_BYTES_MAX;
use blip_engine::{Args, Digest, Files, InputFile, Op, OpError, Output, StageCtx, UnitResult};
use blip_grammar::{Arg, Signature, Type};

use super::budget::{self, BadSample};
use super::{SOURCES, parse_source};
use crate::image_store::{self, ImageLocation};
use crate::ordered_pool::{OrderedPool, cores};
use crate::pairs::PairsWriter;
use crate::types::PAIRS;

const MISSING: &str = "the file is missing or cannot be read";
const FOLDER_HELP: &str = "`images` is the folder that the paths in the list are relative to";
/// Whether an image decodes does not depend on these arguments.
const NOT_OF_IMAGES: [&str; 4] = ["source", "image_field", "caption_field", budget::MAX_BAD];
/// Images decoded between two commits.
const BATCH: usize = 256;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "read.captions",
        PAIRS,
        "Images with captions from a JSON list: BLIP's (`[{\"image\": path, \"caption\": text or \
         texts}]`), the same entries one a line, COCO's captions (`{\"images\", \
         \"annotations\"}`), or Karpathy's splits, of which all are read. The images are files; their paths are absolute, or relative to the \
         folder of images and do not lead out of it. Every image is decoded once; those that \
         cannot be used are rejected with a reason, and so are entries that contradict each other. \
         An image that is listed several times has the captions of all its entries.",
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
    .arg(Arg::optional(
            "image_field",
            Type::Str,
            "The field with the path, when it is not `image` or one of the usual names.",
        ))
    .arg(Arg::optional(
            "caption_field",
            Type::Str,
            "The field with the text, when it is not `caption` or one of the usual names.",
        ))
    .arg(budget::max_bad());
    Op::run(signature, 3, run).reading(sources)
}

/// The list first, then every image of it that exists. The list refers to images by name, so their
/// names, as the list has them, are part of the key: two exchanged files are another dataset.
fn sources(args: &Args, files: &Files<'_>) -> Result<Vec<InputFile>, OpError> {
    let list = files.file(args.path("list")?)?;
    let mut sources = vec![list.clone()];
    let entries = parse_list(args, &list)?.entries;
    let folder = image_folder(args)?;
    // Of a list without a usable entry that is what has to be said.
    if args.given("images")? && !entries.is_empty() {
        check_folder(&files.path(args.path("images")?))?;
    }
    for CaptionedImage { image, .. } in entries {
        // A missing or unreadable image is a bad sample, not the end of the stage.
        let mut found = captions::spellings(&image)
            .into_iter()
            .filter_map(|spelling| files.file(&folder.join(spelling).to_string_lossy()).ok());
        if let Some(file) = found.next() {
            let file = InputFile {
                name: image,
                ..file
            };
            sources.push(file.named());
        }
    }
    Ok(sources)
}

fn check_folder(folder: &Path) -> Result<(), OpError> {
    if folder.is_dir() {
        return Ok(());
    }
    let what = if folder.exists() {
        format!("{} is a file, not a folder", folder.display())
    } else {
        format!("there is no folder {}", folder.display())
    };
    Err(OpError::failed(what, FOLDER_HELP))
}

fn image_folder(args: &Args) -> Result<&Path, OpError> {
    if args.given("images")? {
        return Ok(Path::new(args.path("images")?));
    }
    let list = Path::new(args.path("list")?);
    Ok(list.parent().unwrap_or(Path::new("")))
}

/// Reads the list in pieces: it may be larger than memory.
fn parse_list(args: &Args, list: &InputFile) -> Result<CaptionList, OpError> {
    let names = FieldNames {
        image: args.optional_string("image_field")?,
        caption: args.optional_string("caption_field")?,
    };
    let mut bytes = list.open()?;
    let parsed = captions::read(&mut bytes, &names).map_err(|error| match error {
        ListError::Io(error) => OpError::failed(
            format!("could not read {}: {error}", list.path.display()),
            "check the file and the disk it is on",
        ),
        ListError::Format(reason) => OpError::failed(
            format!("{} is not a captions list: {reason}", list.path.display()),
            "use BLIP's format, `[{\"image\": path, \"caption\": text}]`, or COCO's captions",
        ),
    })?;
    bytes.finish()?;
    Ok(parsed)
}

fn notes(list: &CaptionList) -> Vec<String> {
    let mut notes = Vec::new();
    if list.repeated > 0 {
        notes.push(format!(
            "{} images are listed several times: their captions were merged",
            list.repeated
        ));
    }
    if let Some(first) = &list.first_without {
        notes.push(format!(
            "{} images of the list have no caption (the first: {}): skipped",
            list.without_captions,
            first.escape_debug()
        ));
    }
    if !list.splits.is_empty() {
        let splits = list.splits.iter();
        let splits: Vec<String> = splits
            .map(|(name, images)| format!("{} {images}", name.escape_debug()))
            .collect();
        notes.push(format!(
            "the images of all splits were read: {}",
            splits.join(", ")
        ));
    }
    notes
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let source = parse_source(ctx.args().string("source")?)?;
    let (list_file, images) = ctx
        .sources()
        .split_first()
        .ok_or_else(|| OpError::Bug("the list is not among the sources".to_owned()))?;
    let list = parse_list(ctx.args(), list_file)?;
    let mut notes = notes(&list);
    let CaptionList {
        entries,
        rejected: faults,
        ..
    } = list;
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
                let reason = MISSING.to_owned();
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
        good += 1;
        for text in captions {
            let text = Caption::new(text, source, image.clone());
            pairs.add(file.digest, text, None);
        }
    }
    let all_missing = bad.iter().all(|bad| bad.reason == MISSING);
    let help = if all_missing && !bad.is_empty() {
        FOLDER_HELP
    } else {
        budget::SAMPLE_HELP
    };
    budget::reject(ctx, good, &bad, help)?;
    if good > pairs.images() {
        notes.push(format!(
            "{} files have the bytes of another file: their captions were merged",
            good - pairs.images()
        ));
    }
    let output = pairs.finish(ctx)?;
    Ok(Output {
        side_outputs: vec![image_store::publish(ctx, locations)?],
        notes,
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
    let units = ctx.map_units(&digests, &NOT_OF_IMAGES, BATCH, |positions| {
        let mut pool = OrderedPool::new(cores(), check)?;
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
    let len = file.len;
    if len > IMAGE_BYTES_MAX {
        return Ok(UnitResult::Bad(format!(
            "the image has {len} bytes; at most {IMAGE_BYTES_MAX} are read"
        )));
    }
    let bytes = file.read()?;
    Ok(match decode(&bytes) {
        Ok(_) => UnitResult::Ok(Vec::new()),
        Err(error) => UnitResult::Bad(format!("the image is {error}")),
    })
}
