//! Token ids, cleaned captions and pixels against BertTokenizer, BLIP's `pre_caption` and PIL, by
//! the fixtures of tests/parity/*.py (docs/parity.md).

use std::fs;

use blip_data::decode::{DecodeError, decode};
use blip_data::vocab::Vocab;
use blip_data::{clean, resize};
use serde::Deserialize;

#[path = "../../../tests/parity/table.rs"]
mod table;
use table::{Table, folder};

fn json<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let path = folder("tokenizer").join(name);
    let bytes = fs::read(path).expect("the fixture exists");
    serde_json::from_slice(&bytes).expect("the script writes JSON")
}

/// Adds a row with the number of equal cases and the first difference, which `difference`
/// describes.
fn compare<T>(
    table: &mut Table,
    quantity: &str,
    cases: &[T],
    difference: impl Fn(&T) -> Option<String>,
) {
    let differences: Vec<String> = cases.iter().filter_map(difference).collect();
    let quantity = match differences.first() {
        Some(first) => format!("{quantity}; first: {first}"),
        None => quantity.to_owned(),
    };
    table.equal(&quantity, cases.len() - differences.len(), cases.len());
}

#[test]
fn token_ids_equal_those_of_bert_tokenizer() {
    #[derive(Deserialize)]
    struct Text {
        text: String,
        ids: Vec<i64>,
    }
    let vocab = Vocab::read(&fs::read(folder("tokenizer").join("vocab.txt")).unwrap()).unwrap();
    let texts: Vec<Text> = json("texts.json");
    let mut table = Table::default();
    compare(
        &mut table,
        "token ids of texts",
        &texts,
        |Text { text, ids }| {
            let ours = vocab.encode(text, usize::MAX);
            (ours != *ids).then(|| format!("{text:?} is {ours:?}, not {ids:?}"))
        },
    );
    table.check();
}

#[test]
fn captions_are_cleaned_like_in_the_official_code() {
    #[derive(Deserialize)]
    struct Caption {
        text: String,
        clean: String,
    }
    let captions: Vec<Caption> = json("cleaning.json");
    let mut table = Table::default();
    compare(
        &mut table,
        "cleaned captions",
        &captions,
        |Caption {
             text,
             clean: theirs,
         }| {
            let ours = clean::caption(text, clean::WORDS_MAX);
            (ours != *theirs).then(|| format!("{text:?} is {ours:?}, not {theirs:?}"))
        },
    );
    table.check();
}

#[test]
fn pixels_are_close_to_those_of_pil() {
    let mut table = Table::default();
    let mut names: Vec<_> = fs::read_dir(folder("pixels"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    for path in &names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((stem, size)) = name
            .strip_suffix(".want.png")
            .and_then(|name| name.rsplit_once('.'))
        else {
            continue;
        };
        let source = names
            .iter()
            .find(|path| path.file_stem().is_some_and(|it| it == stem))
            .unwrap();
        let picture =
            decode(&fs::read(source).unwrap()).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let region = resize::full_region(&picture);
        let ours = resize::resize_square(&picture, region, size.parse().unwrap()).rgb;
        let theirs = image::open(path).unwrap().into_rgb8().into_raw();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let mean = |values: &[u8]| {
            let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
            sum / values.len() as f64
        };
        let differences: Vec<u8> = ours
            .iter()
            .zip(&theirs)
            .map(|(one, other)| one.abs_diff(*other))
            .collect();
        let lossy = source.extension().is_some_and(|suffix| suffix == "jpg");
        let bound = if lossy { 1.5 } else { 0.5 };
        table.number(
            &format!("pixels of {stem}, mean of 255"),
            (mean(&ours), mean(&theirs)),
            mean(&differences),
            bound,
        );
    }
    table.check();
}

/// A file of tests/parity/files.py.
#[derive(Deserialize)]
struct ImageFile {
    name: String,
    suffix: String,
    /// By Pillow.
    verdict: String,
    /// Where blip differs on purpose.
    blip: Option<String>,
    /// From which length on the file is whole when it is cut.
    whole_from: Option<usize>,
}

fn verdict(bytes: &[u8]) -> &'static str {
    match decode(bytes) {
        Ok(_) => "whole",
        Err(DecodeError::Truncated) => "truncated",
        Err(DecodeError::Corrupt(_)) => "corrupt",
        Err(_) => "unsupported",
    }
}

#[test]
fn files_are_whole_or_truncated_as_pillow_says() {
    let folder = folder("files");
    let files: Vec<ImageFile> =
        serde_json::from_slice(&fs::read(folder.join("files.json")).unwrap()).unwrap();
    let mut table = Table::default();
    compare(&mut table, "verdicts on image files", &files, |file| {
        let bytes = fs::read(folder.join(format!("{}.{}", file.name, file.suffix))).unwrap();
        let ours = verdict(&bytes);
        let is_same = match &file.blip {
            Some(expected) => ours == expected,
            None if file.verdict == "whole" => ours == "whole",
            None => ours == "truncated" || (file.verdict == "broken" && ours == "corrupt"),
        };
        (!is_same).then(|| format!("{} is {ours}, not {}", file.name, file.verdict))
    });
    for file in &files {
        let Some(whole_from) = file.whole_from else {
            continue;
        };
        let bytes = fs::read(folder.join(format!("{}.{}", file.name, file.suffix))).unwrap();
        let lengths: Vec<usize> = (2..=bytes.len()).collect();
        compare(
            &mut table,
            &format!("cuts of {}", file.name),
            &lengths,
            |length| {
                let is_whole = verdict(&bytes[..*length]) == "whole";
                (is_whole != (*length >= whole_from)).then(|| format!("at {length}"))
            },
        );
    }
    for file in files
        .iter()
        .filter(|file| file.verdict == "whole" && file.blip.is_none())
    {
        let bytes = fs::read(folder.join(format!("{}.{}", file.name, file.suffix))).unwrap();
        let Ok(ours) = decode(&bytes) else {
            continue;
        };
        let theirs = image::open(folder.join(format!("{}.want.png", file.name))).unwrap();
        let theirs = theirs.into_rgb8();
        let sizes = ((ours.width, ours.height), theirs.dimensions());
        assert_eq!(sizes.0, sizes.1, "the size of {}", file.name);
        let differences = ours.rgb.iter().zip(theirs.as_raw());
        let sum: f64 = differences
            .map(|(one, other)| f64::from(one.abs_diff(*other)))
            .sum();
        let mean = sum / ours.rgb.len() as f64;
        let bound = match file.suffix.as_str() {
            // There libjpeg repeats colors of half the size, and zune-jpeg interpolates them.
            "jpg" if ours.width < 5 => 16.0,
            "jpg" => 1.5,
            _ => 0.0,
        };
        table.number(
            &format!("pixels of {}", file.name),
            (mean, 0.0),
            mean,
            bound,
        );
    }
    table.check();
}
