//! How well the ITM head tells matching from mismatched texts.

use blip_engine::{OpError, StageCtx};
use tch::Tensor;

use super::{Case, Metric, images_of};
use crate::filter::FilterScorer;
use crate::inference::{ITEMS, match_scores};
use crate::libtorch;

/// A filter with an AUC this close to 0.5 is of no use. On few pairs chance reaches further: two
/// standard errors.
const CHANCE: f64 = 0.05;
/// How many other images are searched for a mismatched text. A bound, since on a dataset where all
/// texts match all images the search would be quadratic.
const CANDIDATES_MAX: usize = 64;

/// A score, and whether the text matches.
type Scored = (f64, bool);

/// Scores every image's own texts and as many mismatched ones, so that chance has an AUC and a
/// precision of a half, however many texts an image has. A text counts as kept from the threshold
/// on.
pub(super) fn match_metrics(
    ctx: &StageCtx,
    scorer: &FilterScorer,
    cases: &[Case],
    threshold: f64,
) -> Result<(Vec<Metric>, Option<String>), OpError> {
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
            let mismatched = mismatched_texts(cases, start + position);
            for text in case.texts.iter().chain(mismatched) {
                pairs.push((image, text.as_str()));
                labels.push(case.matches(text));
            }
        }
        let scores = match_scores(&scorer.med, &scorer.vocab, &tokens, &pairs);
        scored.extend(scores.into_iter().zip(labels));
    }
    let auc = auc(&mut scored);
    let mut metrics = Vec::new();
    metrics.extend(auc.map(|auc| ("auc".to_owned(), auc)));
    metrics.extend(precision_and_recall(&scored, threshold));
    Ok((metrics, auc.and_then(|auc| chance_note(auc, &scored))))
}

/// Texts of the next images that do not describe this one, as many as make its matching and its
/// mismatched texts equally many.
fn mismatched_texts(cases: &[Case], position: usize) -> Vec<&String> {
    let case = &cases[position];
    let matching = case.texts.iter().filter(|text| case.matches(text)).count();
    let mismatched = case.texts.len() - matching;
    (1..cases.len())
        .take(CANDIDATES_MAX)
        .map(|distance| &cases[(position + distance) % cases.len()])
        .flat_map(|other| &other.texts)
        .filter(|text| !case.matches(text))
        .take(matching.saturating_sub(mismatched))
        .collect()
}

/// At the threshold; what is undefined is left out.
fn precision_and_recall(scored: &[Scored], threshold: f64) -> Vec<Metric> {
    let mut metrics = Vec::new();
    let (mut kept, mut matching, mut both) = (0.0, 0.0, 0.0);
    for (score, matches) in scored {
        let keep = *score >= threshold;
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

/// Says so when an AUC is close to that of chance. Its standard error without any skill is that of
/// the Mann-Whitney statistic.
fn chance_note(auc: f64, scored: &[Scored]) -> Option<String> {
    let matching = scored.iter().filter(|(_, matches)| *matches).count() as f64;
    let mismatched = scored.len() as f64 - matching;
    let error = ((matching + mismatched + 1.0) / (12.0 * matching * mismatched)).sqrt();
    let is_chance = (auc - 0.5).abs() <= CHANCE.max(2.0 * error);
    is_chance.then(|| {
        format!("an AUC of {auc:.3} is close to chance, 0.5: the filter hardly tells texts apart")
    })
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
    use blip_engine::Digest;

    use super::*;

    #[test]
    fn auc_precision_and_recall_follow_their_definitions() {
        let mut scored = vec![(0.1, false), (0.4, true), (0.35, false), (0.8, true)];
        assert_eq!(auc(&mut scored), Some(1.0));
        assert_eq!(auc(&mut [(0.5, false), (0.5, true)]), Some(0.5));
        assert_eq!(auc(&mut [(0.5, true)]), None);
        let mut scored = vec![(0.9, true), (0.6, false), (0.2, true), (0.1, false)];
        assert_eq!(auc(&mut scored), Some(0.75));
        let (precision, recall) = ("precision".to_owned(), "recall".to_owned());
        assert_eq!(
            precision_and_recall(&scored, 0.5),
            [(precision.clone(), 0.5), (recall.clone(), 0.5)]
        );
        assert_eq!(
            precision_and_recall(&scored, 0.2),
            [(precision, 2.0 / 3.0), (recall, 1.0)]
        );
    }

    /// With one mismatched text for five matching ones, a filter that keeps all would have a
    /// precision of 0.83.
    #[test]
    fn an_image_is_scored_with_as_many_mismatched_texts_as_matching_ones() {
        let case = |number: usize| Case {
            image: Digest::of(&[number as u8]),
            texts: (0..5).map(|text| format!("{text} of {number}")).collect(),
            scene: None,
        };
        let cases: Vec<Case> = (0..4).map(case).collect();
        for (position, case) in cases.iter().enumerate() {
            let mismatched = mismatched_texts(&cases, position);
            assert_eq!(mismatched.len(), 5);
            assert!(mismatched.iter().all(|text| !case.has_text(text)));
        }
        assert!(mismatched_texts(&cases[..1], 0).is_empty(), "there is none");
    }

    #[test]
    fn an_auc_of_chance_is_noted() {
        let scored = |count: usize| [(0.5, true), (0.5, false)].repeat(count);
        assert_eq!(
            chance_note(0.52, &scored(1000)).unwrap(),
            "an AUC of 0.520 is close to chance, 0.5: the filter hardly tells texts apart"
        );
        assert_eq!(chance_note(0.6, &scored(1000)), None);
        assert!(chance_note(0.6, &scored(10)).is_some(), "few pairs");
        assert_eq!(
            chance_note(0.1, &scored(1000)),
            None,
            "not chance but wrong"
        );
    }
}
