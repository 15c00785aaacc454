//! A pair outside the cache: one text of one image with its whole provenance, flat, in JSON.
//! Exports write rows, and `read.webdataset` recognizes them.

use std::collections::BTreeMap;

use blip_data::{Caption, TextSource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the field `format` of a `.json` member holds when the member is a row.
const FORMAT: &str = "blip/pair/1";

/// A row. The names of its fields in JSON are a public format.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) format: String,
    /// The digest of the image's bytes.
    pub(crate) image: String,
    pub(crate) caption: String,
    /// Who wrote the caption.
    pub(crate) source: TextSource,
    /// The key of the sample that the caption came with.
    pub(crate) key: String,
    /// The digest of the captioner that generated the caption.
    pub(crate) model: Option<String>,
    /// The seed the caption was sampled with.
    pub(crate) seed: Option<u64>,
    /// Which of the image's sampled captions this is, from 0.
    pub(crate) number: Option<u32>,
    /// The probability that the caption matches the image, by the filter.
    pub(crate) score: Option<f64>,
    /// The digest of the filter that scored the caption.
    pub(crate) judge: Option<String>,
    pub(crate) kept: Option<bool>,
    /// What a generated image shows: the ground truth for measurements.
    #[serde(default)]
    pub(crate) truth: Option<Value>,
    /// Fields that are not ours.
    #[serde(flatten)]
    pub(crate) meta: BTreeMap<String, Value>,
}

/// Longer texts are not kept: some tools store a picture's whole EXIF as one.
const META_BYTES_MAX: usize = 8192;
/// The fields of a row, which fields of others cannot have beside them.
const NAMES: [&str; 12] = [
    "format", "image", "caption", "source", "key", "model", "seed", "number", "score", "judge",
    "kept", "truth",
];

/// What is kept of the other fields of a `.json`: numbers, texts, and yes or no.
pub(crate) fn meta(json: &Value) -> BTreeMap<String, Value> {
    let is_kept = |(name, value): &(&String, &Value)| {
        let is_plain = match value {
            Value::String(text) => text.len() <= META_BYTES_MAX,
            Value::Number(_) | Value::Bool(_) => true,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        is_plain && !NAMES.contains(&name.as_str())
    };
    let fields = json.as_object().into_iter().flatten().filter(is_kept);
    fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

impl Row {
    pub(crate) fn new(image: &blip_engine::Digest, text: &Caption, truth: Option<&Value>) -> Self {
        // Taken apart field by field, so that a field added to `Caption` cannot be forgotten here.
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
            meta,
        } = text.clone();
        Self {
            format: FORMAT.to_owned(),
            image: image.to_string(),
            caption,
            source,
            key,
            model,
            seed,
            number,
            score,
            judge,
            kept,
            truth: truth.cloned(),
            meta,
        }
    }

    /// The row in a `.json` member: `None` for JSON of another kind, the reason for one that
    /// declares itself a row and is none.
    pub(crate) fn recognize(json: &Value) -> Option<Result<Self, String>> {
        let format = json.get("format").and_then(Value::as_str);
        if format != Some(FORMAT) {
            return None;
        }
        let row = Self::deserialize(json).map(|row| Self {
            meta: meta(json),
            ..row
        });
        Some(row.map_err(|error| format!("its .json has the format {FORMAT}, but {error}")))
    }

    /// The caption with its provenance, and the ground truth of the image.
    pub(crate) fn into_caption(self) -> (Caption, Option<Value>) {
        let caption = Caption {
            text: self.caption,
            source: self.source,
            key: self.key,
            model: self.model,
            seed: self.seed,
            number: self.number,
            score: self.score,
            judge: self.judge,
            kept: self.kept,
            meta: self.meta,
        };
        (caption, self.truth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blip_engine::Digest;

    #[test]
    fn a_row_survives_a_round_trip() {
        let text = Caption {
            model: Some("m".to_owned()),
            score: Some(0.25),
            kept: Some(true),
            number: Some(3),
            meta: meta(&serde_json::json!({"url": "http://x", "width": 640, "score": "high"})),
            ..Caption::new(
                "a ring".to_owned(),
                TextSource::Synthetic,
                "x/y.1".to_owned(),
            )
        };
        assert_eq!(text.meta.len(), 2, "`score` is a field of rows");
        let truth = serde_json::json!({"color": "red"});
        let row = Row::new(&Digest::of(b"x"), &text, Some(&truth));
        let json = serde_json::to_value(row).unwrap();
        let recognized = Row::recognize(&json).unwrap().unwrap();
        assert_eq!(recognized.into_caption(), (text, Some(truth)));
    }

    #[test]
    fn other_json_is_no_row() {
        let other = serde_json::json!({"caption": "a ring", "kept": false});
        assert_eq!(Row::recognize(&other), None);
    }

    #[test]
    fn an_incomplete_row_says_what_is_missing() {
        let incomplete = serde_json::json!({"format": FORMAT});
        assert_eq!(
            Row::recognize(&incomplete).unwrap().unwrap_err(),
            "its .json has the format blip/pair/1, but missing field `image`"
        );
    }
}
