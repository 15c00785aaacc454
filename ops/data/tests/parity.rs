//! Token ids, cleaned captions and pixels against BertTokenizer, BLIP's `pre_caption` and PIL, by
//! the fixtures of tests/parity/*.py (docs/parity.md).

use std::fs;

use blip_data::decode::decode;
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
