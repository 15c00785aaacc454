//! Pairs as the ops handle them: samples by image, gathered in any order; the bytes that are
//! written do not depend on the order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use blip_data::{Caption, Sample, TextSource};
use blip_engine::{Artifact, Digest, OpError, Output, StageCtx};
use serde_json::Value;

/// Gathers samples and stores them as a dataset. They are held in memory until then.
#[derive(Debug, Default)]
pub(crate) struct PairsWriter {
    samples: BTreeMap<Digest, Sample>,
}

impl PairsWriter {
    /// Adds a text of an image.
    pub(crate) fn add(&mut self, image: Digest, text: Caption, truth: Option<Value>) {
        let sample = Sample {
            texts: vec![text],
            ground_truth: truth,
        };
        self.add_sample(image, sample);
    }

    /// Adds the texts of an image. An image has one ground truth: of several the lowest one as JSON
    /// text stays, so that the order in which samples are added does not matter.
    pub(crate) fn add_sample(&mut self, image: Digest, added: Sample) {
        let sample = self.samples.entry(image).or_insert_with(|| Sample {
            texts: Vec::new(),
            ground_truth: None,
        });
        sample.texts.extend(added.texts);
        sample.ground_truth = match (sample.ground_truth.take(), added.ground_truth) {
            (Some(left), Some(right)) => Some(lowest(left, right)),
            (left, right) => left.or(right),
        };
    }

    /// How many images there are.
    pub(crate) fn images(&self) -> usize {
        self.samples.len()
    }

    /// Drops duplicate texts of the same image and returns how many. Of texts that are equal once
    /// they are cleaned as for the model, the one with the best provenance stays: human before web
    /// before synthetic, scored before unscored.
    pub(crate) fn drop_duplicates(&mut self) -> u64 {
        let mut dropped = 0;
        for sample in self.samples.values_mut() {
            let before = sample.texts.len();
            sample.texts.sort_by(compare_provenance);
            let mut seen = BTreeSet::new();
            sample
                .texts
                .retain(|text| seen.insert(blip_data::clean::caption(&text.text, usize::MAX)));
            dropped += (before - sample.texts.len()) as u64;
        }
        dropped
    }

    /// Stores the dataset. Texts that are equal in every field are stored once.
    pub(crate) fn finish(self, ctx: &StageCtx) -> Result<Output, OpError> {
        let mut writer = ctx.dataset_writer();
        let mut texts = 0;
        for (image, mut sample) in self.samples {
            sample.texts.sort_by(compare_texts);
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

/// The lower of two values as JSON text.
fn lowest(left: Value, right: Value) -> Value {
    let (left_text, right_text) = (left.to_string(), right.to_string());
    if right_text < left_text { right } else { left }
}

/// The order of texts in a sample: by source, key, number and text, then by every other field, so
/// that equal texts are neighbours.
fn compare_texts(left: &Caption, right: &Caption) -> Ordering {
    (left.source, &left.key, left.number, &left.text)
        .cmp(&(right.source, &right.key, right.number, &right.text))
        .then_with(|| compare_scores(left, right))
}

/// Orders texts by how they were generated and scored. Scores are compared as bits: floats have no
/// total order, and any fixed order will do.
fn compare_scores(left: &Caption, right: &Caption) -> Ordering {
    (&left.model, left.seed, left.score.map(f64::to_bits))
        .cmp(&(&right.model, right.seed, right.score.map(f64::to_bits)))
        .then_with(|| (&left.judge, left.kept).cmp(&(&right.judge, right.kept)))
        .then_with(|| meta_text(left).cmp(&meta_text(right)))
}

fn meta_text(text: &Caption) -> Option<String> {
    let has_any = !text.meta.is_empty();
    has_any.then(|| serde_json::json!(text.meta).to_string())
}

/// The best provenance first.
fn compare_provenance(left: &Caption, right: &Caption) -> Ordering {
    let rank = |text: &Caption| (source_rank(text.source), text.score.is_none());
    rank(left)
        .cmp(&rank(right))
        .then_with(|| compare_texts(left, right))
}

/// Lower is better.
fn source_rank(source: TextSource) -> u8 {
    match source {
        TextSource::Human => 0,
        TextSource::Web => 1,
        TextSource::Synthetic => 2,
    }
}

/// Calls `visit` with every sample of a dataset, ascending by image.
pub(crate) fn for_each_sample(
    ctx: &StageCtx,
    pairs: &Artifact,
    mut visit: impl FnMut(Digest, Sample) -> Result<(), OpError>,
) -> Result<(), OpError> {
    for item in ctx.dataset(pairs)?.items() {
        let item = item?;
        visit(item.id, decode_sample(&item)?)?;
    }
    Ok(())
}

/// The sample of an item of a dataset of pairs.
pub(crate) fn decode_sample(item: &blip_engine::Item) -> Result<Sample, OpError> {
    Sample::decode(&item.payload).map_err(|error| {
        OpError::Bug(format!(
            "the sample of the image {} cannot be read: {error}",
            item.id.short()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, source: TextSource, score: Option<f64>) -> Caption {
        Caption {
            score,
            ..Caption::new(text.to_owned(), source, "k".to_owned())
        }
    }

    #[test]
    fn of_duplicate_texts_the_best_provenance_stays() {
        let image = Digest::of(b"image");
        let texts = [
            text("a dog", TextSource::Synthetic, Some(0.9)),
            text("A dog!", TextSource::Web, None),
            text("a dog.", TextSource::Web, Some(0.8)),
            text("a cat", TextSource::Synthetic, None),
            text("a cat", TextSource::Human, None),
        ];
        for start in 0..texts.len() {
            let mut pairs = PairsWriter::default();
            let rotated = texts.iter().cycle().skip(start).take(texts.len());
            rotated.for_each(|text| pairs.add(image, text.clone(), None));
            assert_eq!(pairs.drop_duplicates(), 3);
            let left: Vec<&str> = pairs.samples[&image]
                .texts
                .iter()
                .map(|text| text.text.as_str())
                .collect();
            assert_eq!(left, ["a cat", "a dog."]);
        }
    }

    #[test]
    fn the_order_of_ground_truths_does_not_matter() {
        let truths = [None, Some(Value::from("b")), Some(Value::from("a"))];
        for start in 0..3 {
            let mut pairs = PairsWriter::default();
            for truth in truths.iter().cycle().skip(start).take(3) {
                let text = text("t", TextSource::Web, None);
                pairs.add(Digest::of(b"x"), text, truth.clone());
            }
            let sample = pairs.samples.values().next().unwrap();
            assert_eq!(sample.ground_truth, Some(Value::from("a")));
        }
    }
}
