//! `export … as webdataset`: tar shards that the webdataset library, Hugging Face datasets and
//! `read.webdataset` read.
//!
//! A sample for each text: the image, `.txt` with the text, `.json` with its [`Row`]. Images keep
//! their bytes, so what is read back has the same digests. Hugging Face datasets refuses shards
//! whose samples differ in their suffixes, so there is one image suffix, that of the most frequent
//! format; readers go by the content of an image, not by its name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use blip_data::decode;
use blip_data::shard::ShardWriter;
use blip_engine::{Artifact, ExportOp, ExportSummary, ExportTarget, OpError, StageCtx};
use blip_grammar::ExportFormat;

use super::unwritable;
use crate::images::Images;
use crate::pairs::samples;
use crate::row::Row;
use crate::types::PAIRS;

/// A shard ends after this many samples…
const SHARD_SAMPLES: usize = 10_000;
/// …or this many bytes.
const SHARD_BYTES: u64 = 1 << 30;
/// Digits of an image's digest in a key.
const KEY_DIGITS: usize = 16;
/// How a key is numbered: `{shard:05}` is 00000, 00001, …
const PLACEHOLDER: &str = "{shard";

pub(crate) fn format() -> ExportOp {
    ExportOp {
        format: ExportFormat {
            name: "webdataset",
            accepts: &[PAIRS],
            doc: "Tar shards of at most 10,000 samples or 1 GiB, numbered where the path has `{shard:05}`. A sample for each \
                  text: the image with its own bytes, `.txt` with the text, `.json` with where it comes from and how it was \
                  judged. All images have the suffix of the most frequent format.",
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
    let names = Names::parse(&target.name)?;
    let images = Images::above(ctx)?;
    let suffix = suffix(ctx, artifact, &images)?;
    let mut shards = Shards {
        names,
        folder: target.folder.clone(),
        current: None,
        number: 0,
        in_shard: 0,
        count: 0,
    };
    samples(ctx, artifact, |image, sample| {
        let bytes = images.bytes(&image)?;
        let digits: String = image.to_string().chars().take(KEY_DIGITS).collect();
        for (number, text) in sample.texts.iter().enumerate() {
            let row = Row::of(&image, text, sample.truth.as_ref());
            shards.add(&format!("{digits}-{number}"), suffix, &bytes, &row)?;
        }
        Ok(())
    })?;
    shards.close()?;
    if shards.count == 0 {
        let what = format!("`{}` has no pair to export", artifact.stage);
        return Err(OpError::failed(
            what,
            "a shard without samples is refused by its readers: look why nothing is left",
        ));
    }
    Ok(ExportSummary {
        count: Some(shards.count),
    })
}

/// The suffix of all images: that of the most frequent format, of equally frequent ones the first
/// by name.
fn suffix(ctx: &StageCtx, artifact: &Artifact, images: &Images) -> Result<&'static str, OpError> {
    let mut formats: BTreeMap<&'static str, u64> = BTreeMap::new();
    samples(ctx, artifact, |image, _| {
        // Every image was decoded when it was read, so its format is a known one.
        *formats
            .entry(decode::suffix(&images.head(&image)?).unwrap_or("jpg"))
            .or_default() += 1;
        Ok(())
    })?;
    let most = formats.into_iter().rev().max_by_key(|(_, count)| *count);
    Ok(most.map_or("jpg", |(format, _)| format))
}

/// The names of shards: what stands before and behind the number, and its digits. Without a number
/// there is one shard.
#[derive(PartialEq, Eq, Debug)]
struct Names {
    before: String,
    digits: Option<usize>,
    behind: String,
}

impl Names {
    fn parse(name: &str) -> Result<Self, OpError> {
        let wrong = || {
            let what = format!("`{name}` does not say how shards are called");
            OpError::failed(
                what,
                "write the number as `{shard:05}`, as in \"out/{shard:05}.tar\"",
            )
        };
        let Some((before, rest)) = name.split_once(PLACEHOLDER) else {
            let plain = !name.contains(['{', '}']);
            return if plain {
                Ok(Self {
                    before: name.to_owned(),
                    digits: None,
                    behind: String::new(),
                })
            } else {
                Err(wrong())
            };
        };
        let (format, behind) = rest.split_once('}').ok_or_else(wrong)?;
        let digits = match format {
            "" => Some(1),
            _ => format
                .strip_prefix(":0")
                .and_then(|digits| digits.parse().ok())
                .filter(|digits| (1..=12).contains(digits)),
        };
        let digits = Some(digits.ok_or_else(wrong)?);
        if before.contains(['{', '}']) || behind.contains(['{', '}']) {
            return Err(wrong());
        }
        Ok(Self {
            before: before.to_owned(),
            digits,
            behind: behind.to_owned(),
        })
    }

    fn of(&self, number: u64) -> String {
        match self.digits {
            Some(digits) => format!("{}{number:0digits$}{}", self.before, self.behind),
            None => self.before.clone(),
        }
    }
}

/// The shards of an export, written one after the other.
struct Shards {
    names: Names,
    folder: PathBuf,
    current: Option<(PathBuf, ShardWriter<BufWriter<File>>)>,
    number: u64,
    in_shard: usize,
    count: u64,
}

impl Shards {
    fn add(&mut self, key: &str, suffix: &str, image: &[u8], row: &Row) -> Result<(), OpError> {
        let written = self
            .current
            .as_ref()
            .map_or(0, |(_, writer)| writer.bytes());
        let full = self.in_shard >= SHARD_SAMPLES || written >= SHARD_BYTES;
        if full && self.names.digits.is_some() {
            self.close()?;
        }
        let (path, writer) = match &mut self.current {
            Some(current) => current,
            None => {
                let path = self.folder.join(self.names.of(self.number));
                let file = File::create(&path).map_err(|error| unwritable(&path, &error))?;
                self.number += 1;
                self.current.insert((
                    path,
                    ShardWriter::new(BufWriter::with_capacity(1 << 20, file)),
                ))
            }
        };
        let json = serde_json::to_vec(row).expect("a row is plain data");
        for (suffix, bytes) in [
            (suffix, image),
            ("txt", row.caption.as_bytes()),
            ("json", &json),
        ] {
            writer
                .add(key, suffix, bytes)
                .map_err(|error| unwritable(path, &error))?;
        }
        self.in_shard += 1;
        self.count += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), OpError> {
        self.in_shard = 0;
        match self.current.take() {
            Some((path, writer)) => writer
                .finish()
                .and_then(|mut file| file.flush())
                .map_err(|error| unwritable(&path, &error)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_as_asked() {
        let name = |text: &str, number| {
            Names::parse(text)
                .map(|names| names.of(number))
                .map_err(|error| error.to_string())
        };
        assert_eq!(name("{shard:05}.tar", 7), Ok("00007.tar".to_owned()));
        assert_eq!(name("web-{shard}.tar", 12), Ok("web-12.tar".to_owned()));
        assert_eq!(name("web.tar", 0), Ok("web.tar".to_owned()));
        for wrong in [
            "{shard:5}.tar",
            "{n}.tar",
            "{shard:05.tar",
            "{shard}{shard}.tar",
            "a}.tar",
            "{shard:099}.tar",
        ] {
            assert_eq!(
                name(wrong, 0),
                Err(format!("`{wrong}` does not say how shards are called"))
            );
        }
    }
}
