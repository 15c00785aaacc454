//! `select`: keeps the texts whose score reaches a threshold.

use std::collections::{BTreeMap, BTreeSet};

use blip_data::{Caption, Sample, TextSource};
use blip_engine::{OpError, Output, StageCtx};

use super::sheet::{ReservoirSample, ScoredPair, draw_sheet};
use crate::pairs::decode_sample;

/// The side output of `select` that shows some of the pairs and their verdicts: a PNG.
pub(crate) const SHEET: &str = "pairs sheet";
/// Texts whose score is this close to the threshold are counted: another machine may decide them
/// otherwise.
const BORDERLINE: f64 = 1e-4;

pub(super) fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let threshold = ctx.args().float("threshold")?;
    let (mut kept, mut rejected) = (ctx.dataset_writer(), ctx.dataset_writer());
    let mut counts = Counts::default();
    let mut shown = Shown::default();
    for item in ctx.dataset(ctx.input("pairs")?)?.items() {
        let item = item?;
        let Sample {
            texts,
            ground_truth: truth,
        } = decode_sample(&item)?;
        let (mut kept_texts, mut rejected_texts) = (Vec::new(), Vec::new());
        for mut text in texts {
            if text.score.is_none() && text.judge.is_none() {
                return Err(not_scored(&text));
            }
            // A text that a filter could not score is not kept: nothing says that it matches.
            let keep = text.score.is_some_and(|score| score >= threshold);
            text.kept = Some(keep);
            counts.add(&text, keep, threshold);
            let pair = ScoredPair::new(item.id, &text);
            if keep {
                shown.kept.add(pair);
                kept_texts.push(text);
            } else {
                shown.rejected.add(pair);
                rejected_texts.push(text);
            }
        }
        for (texts, writer) in [(kept_texts, &mut kept), (rejected_texts, &mut rejected)] {
            if texts.is_empty() {
                continue;
            }
            let truth = truth.clone();
            writer.add(
                item.id,
                Sample {
                    texts,
                    ground_truth: truth,
                }
                .encode(),
            )?;
        }
    }
    let rejected = rejected.finish()?;
    let output = kept.finish()?;
    if let Some(total) = counts.all_rejected() {
        ctx.warn(format!(
            "none of {total} texts reaches the threshold {threshold}"
        ));
    }
    let mut notes = Vec::new();
    if counts.borderline > 0 {
        notes.push(format!(
            "{} texts within {BORDERLINE} of the threshold",
            counts.borderline
        ));
    }
    let sheet = draw_sheet(ctx, threshold, shown.kept, shown.rejected)?;
    let side_outputs = vec![("rejected", rejected.digest), (SHEET, ctx.put(&sheet)?)];
    Ok(Output {
        metrics: counts.metrics(),
        notes,
        side_outputs,
        ..output
    })
}

/// Samples of the pairs, for the sheet.
#[derive(Default)]
struct Shown {
    kept: ReservoirSample,
    rejected: ReservoirSample,
}

/// Verdicts by source.
#[derive(Default)]
struct Counts {
    kept: BTreeMap<&'static str, u64>,
    rejected: BTreeMap<&'static str, u64>,
    borderline: u64,
}

impl Counts {
    fn add(&mut self, text: &Caption, keep: bool, threshold: f64) {
        let by_source = if keep {
            &mut self.kept
        } else {
            &mut self.rejected
        };
        *by_source.entry(source_name(text.source)).or_default() += 1;
        let borderline = text
            .score
            .is_some_and(|score| (score - threshold).abs() <= BORDERLINE);
        self.borderline += u64::from(borderline);
    }

    /// How many texts were rejected, when there were texts and none was kept.
    fn all_rejected(&self) -> Option<u64> {
        let all = self.kept.is_empty() && !self.rejected.is_empty();
        all.then(|| self.rejected.values().sum())
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        let sources: BTreeSet<&str> = self
            .kept
            .keys()
            .chain(self.rejected.keys())
            .copied()
            .collect();
        let mut metrics = Vec::new();
        for source in sources {
            let kept = self.kept.get(source).copied().unwrap_or(0);
            let rejected = self.rejected.get(source).copied().unwrap_or(0);
            metrics.push((format!("kept_{source}"), kept as f64));
            metrics.push((format!("rejected_{source}"), rejected as f64));
        }
        metrics
    }
}

/// The word for a source, as in samples.
pub(super) fn source_name(source: TextSource) -> &'static str {
    match source {
        TextSource::Web => "web",
        TextSource::Synthetic => "synthetic",
        TextSource::Human => "human",
    }
}

/// No filter has seen the text: to keep it would be as wrong as to drop it.
fn not_scored(text: &Caption) -> OpError {
    let Caption { text, key, .. } = text;
    OpError::failed(
        format!("{text:?} of `{key}` has no score"),
        "score all pairs: `filter(judge, pairs)`, or `score(judge, pairs)` after `merge`",
    )
}
