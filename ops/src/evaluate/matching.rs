//! How well the ITM head tells matching from mismatched texts.

use blip_engine::{OpError, StageCtx};
use tch::Tensor;

use super::{Case, Metric, images_of};
use crate::filter::FilterScorer;
use crate::inference::{ITEMS, match_scores};
use crate::libtorch;

/// The score from which on a text counts as matching, as in the paper.
const THRESHOLD: f64 = 0.5;
/// How many other images are searched for a mismatched text. A bound, since on a dataset where all
/// texts match all images the search would be quadratic.
const CANDIDATES_MAX: usize = 64;

/// A score, and whether the text matches.
type Scored = (f64, bool);

/// Scores every image's own texts and one mismatched text.
pub(super) fn match_metrics(
    ctx: &StageCtx,
    scorer: &FilterScorer,
    cases: &[Case],
) -> Result<Vec<Metric>, OpError> {
    let _device = libtorch::lock_device()?;
    let mut scored: Vec<Scored> = Vec::new();
    for (start, batch) in (0..).step_by(ITEMS).zip(cases.chunks(ITEMS)) {
        ctx.check_interrupted()?;
        let encoded = scorer.images.encode(&scorer.med, &images_of(batch))?;
        let mut tokens: Vec<&Tensor> = Vec::new();
        let (mut pairs, mut labels) = (Vec::new(), Vec::new());
        for (position, (case, encoded)) in batch.iter().zip(&encoded).enumerate() {
            let Ok(encoded) = encoded else { continue };
            let image = tokens.len();
            tokens.push(encoded);
            let mismatched = mismatched_text(cases, start + position);
            for text in case.texts.iter().chain(mismatched) {
                pairs.push((image, text.as_str()));
                labels.push(case.matches(text));
            }
        }
        let scores = match_scores(&scorer.med, &scorer.vocab, &tokens, &pairs);
        scored.extend(scores.into_iter().zip(labels));
    }
    Ok(metrics(&mut scored))
}

/// A text of one of the next images that does not describe this one.
fn mismatched_text(cases: &[Case], position: usize) -> Option<&String> {
    (1..cases.len())
        .take(CANDIDATES_MAX)
        .map(|distance| &cases[(position + distance) % cases.len()])
        .flat_map(|other| &other.texts)
        .find(|text| !cases[position].matches(text))
}

/// AUC, and precision and recall at the threshold; undefined ones are left out.
fn metrics(scored: &mut [Scored]) -> Vec<Metric> {
    let mut metrics = Vec::new();
    metrics.extend(auc(scored).map(|auc| ("auc".to_owned(), auc)));
    let (mut kept, mut matching, mut both) = (0.0, 0.0, 0.0);
    for (score, matches) in scored {
        let keep = *score >= THRESHOLD;
        kept += f64::from(keep);
        matching += f64::from(*matches);
        both += f64::from(keep && *matches);
    }
    if kept > 0.0 {
        metrics.push(("precision".to_owned(), both / kept));
    }
    if matching > 0.0 {
        metrics.push(("recall".to_owned(), both / matching));
    }
    metrics
}

/// The probability that a matching pair scores higher than a mismatched one, ties counting half;
/// `None` without pairs of both kinds.
fn auc(scored: &mut [Scored]) -> Option<f64> {
    scored.sort_by(|left, right| left.0.total_cmp(&right.0));
    let matching = scored.iter().filter(|(_, matches)| *matches).count() as f64;
    let mismatched = scored.len() as f64 - matching;
    let (mut mismatched_below, mut sum) = (0.0, 0.0);
    for ties in scored.chunk_by(|left, right| left.0 == right.0) {
        let matching_ties = ties.iter().filter(|(_, matches)| *matches).count() as f64;
        let mismatched_ties = ties.len() as f64 - matching_ties;
        sum += matching_ties * (mismatched_below + mismatched_ties / 2.0);
        mismatched_below += mismatched_ties;
    }
    (matching > 0.0 && mismatched > 0.0).then(|| sum / (matching * mismatched))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_precision_and_recall_follow_their_definitions() {
        let mut scored = vec![(0.1, false), (0.4, true), (0.35, false), (0.8, true)];
        assert_eq!(auc(&mut scored), Some(1.0));
        assert_eq!(auc(&mut [(0.5, false), (0.5, true)]), Some(0.5));
        assert_eq!(auc(&mut [(0.5, true)]), None);
        let mut scored = vec![(0.9, true), (0.6, false), (0.2, true), (0.1, false)];
        let found = metrics(&mut scored);
        assert_eq!(found[0], ("auc".to_owned(), 0.75));
        assert_eq!(
            found[1..],
            [("precision".to_owned(), 0.5), ("recall".to_owned(), 0.5)]
        );
    }
}
