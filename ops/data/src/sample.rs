//! A sample: one image with its texts, as it is stored in a dataset. The image itself is named by
//! its digest, elsewhere.

use serde::{Deserialize, Serialize};

/// Who wrote a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextSource {
    /// It was found beside the image on the web.
    Web,
    /// A captioner wrote it.
    Synthetic,
    /// An annotator wrote it.
    Human,
}

/// A text of an image, with its story.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caption {
    /// The text.
    pub text: String,
    /// Who wrote it.
    pub source: TextSource,
    /// The key of the sample in the shard or list it came from.
    pub key: String,
    /// The captioner that wrote it, by its digest.
    pub model: Option<String>,
    /// The seed it was sampled with.
    pub seed: Option<u64>,
    /// Which of the image's sampled captions it is, from 0.
    pub number: Option<u32>,
    /// The probability that it matches the image, by the filter; rounded to 1e-5.
    pub score: Option<f64>,
    /// The filter that scored it, by its digest.
    pub judge: Option<String>,
    /// The verdict; none for a text that was never judged.
    pub kept: Option<bool>,
}

/// An image's texts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Its texts, sorted by source, key, number and text.
    pub texts: Vec<Caption>,
    /// What a generated image really shows. For measuring only: no training op looks at it.
    pub truth: Option<serde_json::Value>,
}

impl Sample {
    /// The sample as bytes: JSON with fields in one order.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a sample is plain data with text keys")
    }

    /// The sample with these bytes.
    ///
    /// # Errors
    /// What the JSON parser says.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl Caption {
    /// A text as it is read: nobody has judged it yet.
    pub fn read(text: String, source: TextSource, key: String) -> Self {
        Self {
            text,
            source,
            key,
            model: None,
            seed: None,
            number: None,
            score: None,
            judge: None,
            kept: None,
        }
    }
}
