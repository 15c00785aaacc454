//! Retrieval by ITC: texts for an image and images for a text.

use blip_engine::{OpError, StageCtx};
use blip_model::ForwardMode;
use tch::{Kind, Tensor};

use super::{Case, Metric, images_of};
use crate::filter::FilterScorer;
use crate::inference::{ITEMS, SCORED_LENGTH};
use crate::libtorch;

/// The features of all decodable images and their texts.
#[derive(Default)]
struct Features<'a> {
    cases: Vec<&'a Case>,
    /// (1, embed) for each of `cases`
    images: Vec<Tensor>,
    /// (1, embed) for each of `owners`
    texts: Vec<Tensor>,
    /// The position in `cases` of the image that a text belongs to, and the text.
    owners: Vec<(usize, &'a str)>,
}

impl Features<'_> {
    /// A text is relevant for an image when it is one of its own or reads the same as one: datasets
    /// repeat captions, and equal texts cannot be told apart.
    fn relevant(&self, image: usize, text: usize) -> bool {
        let (owner, text) = self.owners[text];
        owner == image || self.cases[image].has_text(text)
    }
}

/// Recall at 1, 5 and 10; nothing when no text has a known word.
pub(super) fn retrieval(
    ctx: &StageCtx,
    scorer: &FilterScorer,
    cases: &[Case],
) -> Result<Vec<Metric>, OpError> {
    let _device = libtorch::lock_device()?;
    let mut features = Features::default();
    for batch in cases.chunks(ITEMS) {
        ctx.check_interrupted()?;
        let encoded = scorer.images.encode(&scorer.med, &images_of(batch))?;
        for (case, encoded) in batch.iter().zip(encoded) {
            if let Ok(tokens) = encoded {
                add_features(&mut features, scorer, case, &tokens);
            }
        }
    }
    if features.texts.is_empty() {
        return Ok(Vec::new());
    }
    let images = Tensor::cat(&features.images, 0);
    let texts = Tensor::cat(&features.texts, 0);
    let similarity = images.matmul(&texts.tr()); // (images, texts)
    let for_images = ranks(&similarity, |image, text| features.relevant(image, text));
    let for_texts = ranks(&similarity.tr(), |text, image| {
        features.relevant(image, text)
    });
    let mut metrics = Vec::new();
    for (name, ranks) in [("text_recall", for_images), ("image_recall", for_texts)] {
        for k in [1, 5, 10] {
            let hits = ranks.iter().flatten().filter(|rank| **rank < k).count();
            metrics.push((format!("{name}@{k}"), hits as f64 / ranks.len() as f64));
        }
    }
    Ok(metrics)
}

fn add_features<'a>(
    features: &mut Features<'a>,
    scorer: &FilterScorer,
    case: &'a Case,
    tokens: &Tensor,
) {
    let encoder = &scorer.med.encoder().features;
    let image = tch::no_grad(|| encoder.images(&tokens.unsqueeze(0), ForwardMode::EVAL));
    let owner = features.cases.len();
    features.cases.push(case);
    features.images.push(image);
    let length = scorer.med.config.text.positions.min(SCORED_LENGTH) as usize;
    for text in &case.texts {
        if !scorer.vocab.knows_any(text) {
            continue;
        }
        let ids = Tensor::from_slice(&scorer.vocab.encode(text, length))
            .unsqueeze(0)
            .to_device(scorer.med.device());
        let mask = ids.ones_like().to_kind(Kind::Bool);
        let feature = tch::no_grad(|| encoder.texts(&ids, &mask, ForwardMode::EVAL));
        features.texts.push(feature);
        features.owners.push((owner, text));
    }
}

/// For every row the rank, from 0, of its best relevant column; ties go to the lower column.
fn ranks(similarity: &Tensor, relevant: impl Fn(usize, usize) -> bool) -> Vec<Option<usize>> {
    let rows = Vec::<Vec<f32>>::try_from(&similarity.contiguous()).expect("a table of floats");
    let mut ranks = Vec::with_capacity(rows.len());
    for (row, values) in rows.iter().enumerate() {
        let mut columns: Vec<usize> = (0..values.len()).collect();
        columns.sort_by(|left, right| {
            values[*right]
                .total_cmp(&values[*left])
                .then(left.cmp(right))
        });
        ranks.push(columns.into_iter().position(|column| relevant(row, column)));
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_of_the_best_relevant_column() {
        let similarity = Tensor::from_slice2(&[[0.1_f32, 0.9, 0.5], [0.3, 0.3, 0.2]]);
        assert_eq!(
            ranks(&similarity, |row, column| row == 0 && column != 1),
            [Some(1), None]
        );
        let second = ranks(&similarity, |_, column| column == 1);
        assert_eq!(second, [Some(0), Some(1)]);
    }
}
