//! A pair as it stands outside: one text of one image with its whole story, flat, in JSON. Exports
//! write rows, and `read.webdataset` knows them again.

use blip_data::{Caption, TextSource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Says that a `.json` member is a row.
const FORMAT: &str = "blip/pair/1";

/// A row. The names are a public format.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Always `blip/pair/1`.
    pub(crate) format: String,
    /// The digest of the image's bytes.
    pub(crate) image: String,
    /// The text.
    pub(crate) caption: String,
    /// Who wrote it.
    pub(crate) source: TextSource,
    /// The key it came with.
    pub(crate) key: String,
    /// The captioner that wrote it, by its digest.
    pub(crate) model: Option<String>,
    /// The seed it was sampled with.
    pub(crate) seed: Option<u64>,
    /// Which of the image's sampled captions it is, from 0.
    pub(crate) number: Option<u32>,
    /// The probability that it matches the image, by the filter.
    pub(crate) score: Option<f64>,
    /// The filter that scored it, by its digest.
    pub(crate) judge: Option<String>,
    /// The action.
    pub(crate) kept: Option<bool>,
    /// What a generated picture really shows.
    #[serde(default)]
    pub(crate) truth: Option<Value>,
}

impl Row {
    /// The row of a text.
    pub(crate) fn of(image: &blip_engine::Digest, text: &Caption, truth: Option<&Value>) -> Self {
        let Caption {
            text: caption,
            source,
            key,
            model,
            seed,
            number,
            score,
            judge,
            kept,
        } = text.clone();
        let (format, image, truth) = (FORMAT.to_owned(), image.to_string(), truth.cloned());
        Self {
            format,
            image,
            caption,
            source,
            key,
            model,
            seed,
            number,
            score,
            judge,
            kept,
            truth,
        }
    }

    /// The row in a `.json` member; none for JSON of another kind, a reason for one that only says
    /// it is a row.
    pub(crate) fn recognize(json: &Value) -> Option<Result<Self, String>> {
        let ours = json.get("format").and_then(Value::as_str) == Some(FORMAT);
        ours.then(|| {
            Self::deserialize(json).map_err(|error| format!("its .json says {FORMAT}, but {error}"))
        })
    }

    /// The text with its story, and what the picture shows.
    pub(crate) fn into_text(self) -> (Caption, Option<Value>) {
        let Self {
            caption: text,
            source,
            key,
            model,
            seed,
            number,
            score,
            judge,
            kept,
            truth,
            ..
        } = self;
        (
            Caption {
                text,
                source,
                key,
                model,
                seed,
                number,
                score,
                judge,
                kept,
            },
            truth,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blip_engine::Digest;

    #[test]
    fn a_row_is_known_again() {
        let text = Caption {
            model: Some("m".to_owned()),
            score: Some(0.25),
            kept: Some(true),
            number: Some(3),
            ..Caption::read(
                "a ring".to_owned(),
                TextSource::Synthetic,
                "x/y.1".to_owned(),
            )
        };
        let truth = serde_json::json!({"color": "red"});
        let json = serde_json::to_value(Row::of(&Digest::of(b"x"), &text, Some(&truth))).unwrap();
        assert_eq!(
            Row::recognize(&json).unwrap().unwrap().into_text(),
            (text, Some(truth))
        );
        assert_eq!(
            Row::recognize(&serde_json::json!({"caption": "a ring", "kept": false})),
            None
        );
        assert_eq!(
            Row::recognize(&serde_json::json!({"format": FORMAT}))
                .unwrap()
                .unwrap_err(),
            "its .json says blip/pair/1, but missing field `image`"
        );
    }
}
