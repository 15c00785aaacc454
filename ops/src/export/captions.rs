//! `export … as captions`: a captions list with its images as files, which BLIP's own loaders and
//! `read.captions` read.

use std::fs;
use std::path::Path;

use blip_data::decode;
use blip_engine::{Artifact, Digest, ExportOp, ExportSummary, ExportTarget, OpError, StageCtx};
use blip_grammar::ExportFormat;
use serde_json::{Value, json};

use super::{RowList, unwritable};
use crate::image_store::ImageStore;
use crate::pairs::for_each_sample;
use crate::row::Row;
use crate::types::PAIRS;

const LIST: &str = "captions.json";
const IMAGES: &str = "images";
/// Digits of an image's digest in the name of its file.
const NAME_DIGITS: usize = 16;

pub(crate) fn format() -> ExportOp {
    ExportOp {
        format: ExportFormat {
            name: "captions",
            accepts: &[PAIRS],
            doc: "A folder: `captions.json`, a list in BLIP's format with a row for each text \
                  (`image`, `caption`, its provenance and score), and `images/` with the images \
                  that it names, with their original bytes. `read.captions` reads it.",
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
    let folder = target.folder.join(&target.name);
    let images = folder.join(IMAGES);
    fs::create_dir_all(&images).map_err(|error| unwritable(&images, &error))?;
    let store = ImageStore::of_upstream(ctx)?;
    let mut list = RowList::create(folder.join(LIST))?;
    for_each_sample(ctx, artifact, |image, sample| {
        let name = write_image(&images, &image, &store)?;
        for text in &sample.texts {
            let row = Row::new(&image, text, sample.ground_truth.as_ref());
            list.add(&entry(&name, row))?;
        }
        Ok(())
    })?;
    let count = Some(list.finish()?);
    Ok(ExportSummary { count })
}

/// Writes an image and gives its name in the list.
fn write_image(folder: &Path, image: &Digest, store: &ImageStore) -> Result<String, OpError> {
    let bytes = store.bytes(image)?;
    // Every image was decoded when it was read, so its format is known.
    let suffix = decode::suffix(&bytes).unwrap_or("jpg");
    let digits: String = image.to_string().chars().take(NAME_DIGITS).collect();
    let name = format!("{digits}.{suffix}");
    let path = folder.join(&name);
    fs::write(&path, &bytes).map_err(|error| unwritable(&path, &error))?;
    Ok(format!("{IMAGES}/{name}"))
}

/// A row with the name of the image's file where others have its digest.
fn entry(name: &str, row: Row) -> Value {
    let mut row = json!(row);
    if let Some(fields) = row.as_object_mut() {
        // It would say that `image` is a digest.
        fields.remove("format");
        fields.insert("image".to_owned(), name.into());
    }
    row
}
