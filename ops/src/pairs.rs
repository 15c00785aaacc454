//! Pairs as the ops handle them: samples by image, gathered in any order, the same bytes whatever
//! the order was.

use std::collections::BTreeMap;

use blip_data::{Caption, Sample, TextSource};
use blip_engine::{Artifact, Digest, OpError, Output, StageCtx};
use serde_json::Value;

/// Samples that are being gathered. They are held in memory, like every dataset that is being
/// written.
#[derive(Debug, Default)]
pub(crate) struct PairsWriter {
    samples: BTreeMap<Digest, Sample>,
}

impl PairsWriter {
    /// Adds a text of an image.
    pub(crate) fn add(&mut self, image: Digest, text: Caption, truth: Option<Value>) {
        self.add_sample(
            image,
            Sample {
                texts: vec![text],
                truth,
            },
        );
    }

    /// Adds texts of an image. What a picture shows is said once an image; of several sayings the
    /// lowest stays.
    pub(crate) fn add_sample(&mut self, image: Digest, added: Sample) {
        let empty = || Sample {
            texts: Vec::new(),
            truth: None,
        };
        let sample = self.samples.entry(image).or_insert_with(empty);
        sample.texts.extend(added.texts);
        let words = |truth: &Value| truth.to_string();
        sample.truth = match (sample.truth.take(), added.truth) {
            (Some(left), Some(right)) if words(&right) < words(&left) => Some(right),
            (left, right) => left.or(right),
        };
    }

    /// How many images there are.
    pub(crate) fn images(&self) -> usize {
        self.samples.len()
    }

    /// Drops texts that say the same of the same image; gives how many. Of texts that are equal
    /// once they are cleaned as for the model, the one with the better provenance stays: human
    /// before web before synthetic, judged before not.
    pub(crate) fn drop_repeated(&mut self) -> u64 {
        let mut dropped = 0;
        for sample in self.samples.values_mut() {
            let before = sample.texts.len();
            sample.texts.sort_by(|left, right| {
                let rank = |text: &Caption| (trust(text.source), text.score.is_none());
                rank(left)
                    .cmp(&rank(right))
                    .then_with(|| order(left, right))
            });
            let mut seen = std::collections::BTreeSet::new();
            sample
                .texts
                .retain(|text| seen.insert(blip_data::clean::caption(&text.text, usize::MAX)));
            dropped += (before - sample.texts.len()) as u64;
        }
        dropped
    }

    /// Stores the dataset. A text that is there twice with all its story is there once.
    pub(crate) fn finish(self, ctx: &StageCtx) -> Result<Output, OpError> {
        let mut writer = ctx.dataset_writer();
        let mut texts = 0;
        for (image, mut sample) in self.samples {
            sample.texts.sort_by(order);
            sample.texts.dedup();
            texts += sample.texts.len();
            writer.add(image, sample.encode())?;
        }
        let output = writer.finish()?;
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        let metrics = vec![("texts".to_owned(), texts as f64)];
        Ok(Output { metrics, ..output })
    }
}

/// The order of texts in a sample: by source, key and number, then by everything else, so that
/// equal texts are neighbours.
fn order(left: &Caption, right: &Caption) -> std::cmp::Ordering {
    let key = |text: &Caption| {
        (
            text.source,
            text.key.clone(),
            text.number,
            text.text.clone(),
        )
    };
    let rest = |text: &Caption| {
        let score = text.score.map(f64::to_bits);
        (
            text.model.clone(),
            text.seed,
            score,
            text.judge.clone(),
            text.kept,
        )
    };
    key(left)
        .cmp(&key(right))
        .then_with(|| rest(left).cmp(&rest(right)))
}

/// Lower is better.
fn trust(source: TextSource) -> u8 {
    match source {
        TextSource::Human => 0,
        TextSource::Web => 1,
        TextSource::Synthetic => 2,
    }
}

/// The samples of a dataset, by image.
pub(crate) fn samples(
    ctx: &StageCtx,
    pairs: &Artifact,
    mut take: impl FnMut(Digest, Sample) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let dataset = ctx.dataset(pairs)?;
    for item in dataset.items() {
        let item = item?;
        take(item.id, decode(&item)?)?;
    }
    Ok(())
}

/// An item's sample.
pub(crate) fn decode(item: &blip_engine::Item) -> Result<Sample, OpError> {
    let bug = |error| {
        OpError::Bug(format!(
            "the sample of the image {} cannot be read: {error}",
            item.id.short()
        ))
    };
    Sample::decode(&item.payload).map_err(bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, source: TextSource, score: Option<f64>) -> Caption {
        Caption {
            score,
            ..Caption::read(text.to_owned(), source, "k".to_owned())
        }
    }

    #[test]
    fn of_texts_that_say_the_same_the_best_provenance_stays() {
        let image = Digest::of(b"image");
        let texts = [
            text("a dog", TextSource::Synthetic, Some(0.9)),
            text("A dog!", TextSource::Web, None),
            text("a dog.", TextSource::Web, Some(0.8)),
            text("a cat", TextSource::Synthetic, None),
            text("a cat", TextSource::Human, None),
        ];
        for turn in 0..texts.len() {
            let mut pairs = PairsWriter::default();
            let turned = texts.iter().cycle().skip(turn).take(texts.len());
            turned.for_each(|text| pairs.add(image, text.clone(), None));
            assert_eq!(pairs.drop_repeated(), 3);
            let left: Vec<&str> = pairs.samples[&image]
                .texts
                .iter()
                .map(|text| text.text.as_str())
                .collect();
            assert_eq!(left, ["a cat", "a dog."]);
        }
    }

    #[test]
    fn the_order_of_truths_leaves_no_trace() {
        let truth = |pairs: &PairsWriter| pairs.samples.values().next().unwrap().truth.clone();
        let sayings = [None, Some(Value::from("b")), Some(Value::from("a"))];
        for turn in 0..3 {
            let mut pairs = PairsWriter::default();
            for saying in sayings.iter().cycle().skip(turn).take(3) {
                pairs.add(
                    Digest::of(b"x"),
                    text("t", TextSource::Web, None),
                    saying.clone(),
                );
            }
            assert_eq!(truth(&pairs), Some(Value::from("a")));
        }
    }
}
