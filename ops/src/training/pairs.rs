//! The pairs of a training: one image and one text each.

use blip_data::clean;
use blip_data::vocab::Vocab;
use blip_engine::{Artifact, Digest, OpError, StageCtx};

use crate::pairs::decode_sample;

/// Pairs in the order of the dataset, held in memory: 4 bytes and the text for each.
#[derive(Debug)]
pub(crate) struct TrainingPairs {
    images: Vec<Digest>,
    /// Position in `images`, cleaned text.
    pairs: Vec<(u32, Box<str>)>,
}

impl TrainingPairs {
    /// Reads a dataset. Texts without a word of the vocabulary are rejected.
    pub(crate) fn read(
        ctx: &StageCtx,
        artifact: &Artifact,
        vocab: &Vocab,
    ) -> Result<Self, OpError> {
        let (mut images, mut pairs) = (Vec::new(), Vec::new());
        for item in ctx.dataset(artifact)?.items() {
            let item = item?;
            let sample = decode_sample(&item)?;
            let image = u32::try_from(images.len())
                .map_err(|_| OpError::Bug("more than 2^32 images".to_owned()))?;
            images.push(item.id);
            for text in &sample.texts {
                let cleaned = clean::caption(&text.text, clean::WORDS_MAX);
                if vocab.knows_any(&cleaned) {
                    pairs.push((image, cleaned.into_boxed_str()));
                } else {
                    ctx.reject(&text.key, "no word of the text is in the vocabulary");
                }
            }
        }
        if pairs.is_empty() {
            let what = format!("`{}` has no pairs to train on", artifact.stage);
            return Err(OpError::failed(
                what,
                "check why the dataset is empty, or whether the vocabulary is of another language",
            ));
        }
        Ok(Self { images, pairs })
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The image's number and the text of a pair.
    pub(super) fn pair(&self, number: u32) -> (u32, &str) {
        let (image, text) = &self.pairs[number as usize];
        (*image, text)
    }

    pub(super) fn digest(&self, image: u32) -> Digest {
        self.images[image as usize]
    }
}
