//! `score`, `select` and `filter`: a filter judges web and synthetic texts alike and keeps those
//! that match (paper section 3.3).
//!
//! Scoring runs the model, once per image and text; selecting by a threshold runs none. `filter` is
//! both.

use std::collections::BTreeMap;

use blip_data::decode::decode;
use blip_data::picture::{Card, contact_sheet};
use blip_data::vocab::Vocab;
use blip_data::{Sample, TextSource, clean};
use blip_engine::{
    Digest, Item, MapOp, MapWorker, Op, OpError, Output, StageCtx, Step, UnitResult, Work,
};
use blip_grammar::{Arg, Arguments, Signature, Type};
use blip_model::{Med, Role};
use tch::Tensor;

use crate::images::Images;
use crate::inference::{ITEMS, ImageEncoder, match_scores};
use crate::libtorch;
use crate::model::Stored;
use crate::pairs;
use crate::types::{FILTER, PAIRS};

/// The by-product of `select` that shows some of the pairs and their verdicts: a PNG.
pub(crate) const SHEET: &str = "pairs sheet";
/// Pairs on the sheet, kept and rejected ones each.
const SHEET_PAIRS: usize = 18;
/// Pairs that those on the sheet are chosen from, kept and rejected ones each.
const FEW: usize = 1000;
/// A score this near to the threshold could go either way on another machine; such texts are
/// counted.
const BORDERLINE: f64 = 1e-4;

/// The ops of this file.
pub(crate) fn ops() -> [Op; 3] {
    let judge = || Arg::required("filter", FILTER, "The model that judges.");
    let pairs = || {
        Arg::required(
            "pairs",
            PAIRS,
            "The pairs; every text is judged for itself.",
        )
    };
    let threshold = || {
        Arg::with_default(
            "threshold",
            Type::Float,
            "0.5",
            "The lowest probability of a match at which a text is kept.",
        )
        .within(0.0, 1.0)
    };
    let score = Signature::stage(
        "score",
        PAIRS,
        "Gives every text the probability that it matches its image: the filter's ITM head.",
    )
    .example("score(judge, web_pairs)")
    .arg(judge())
    .arg(pairs());
    let select = Signature::stage(
        "select",
        PAIRS,
        "Keeps the texts whose score reaches a threshold.",
    )
    .example("select(scored, threshold = 0.5)")
    .arg(Arg::required("pairs", PAIRS, "Scored pairs."))
    .arg(threshold());
    let filter = Signature::stage(
        "filter",
        PAIRS,
        "Judges every text and keeps those that match their image: `score`, then `select`.",
    )
    .example("filter(judge, merge(web_pairs, synthetic), threshold = 0.5)")
    .arg(judge())
    .arg(pairs())
    .arg(threshold());
    [
        Op::map(score, 1, |ctx| {
            Ok(Box::new(Score {
                judge: ctx.input("filter")?.digest,
            }))
        })
        .numeric(),
        Op::run(select, 1, run_select),
        Op::compose(filter, steps),
    ]
}

fn steps(args: &Arguments) -> Vec<Step> {
    let pick = |names: &[&'static str]| {
        names
            .iter()
            .filter_map(|name| Some((*name, args.get(name)?.clone())))
            .collect()
    };
    vec![
        Step {
            op: "score",
            args: pick(&["filter", "pairs"]),
            previous: None,
        },
        Step {
            op: "select",
            args: pick(&["threshold"]),
            previous: Some("pairs"),
        },
    ]
}

struct Score {
    judge: Digest,
}

impl MapOp for Score {
    fn input_arg(&self) -> &'static str {
        "pairs"
    }

    fn units(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        let unit =
            |text: String| Digest::parts("blip/score/1", &[item.id.as_bytes(), text.as_bytes()]);
        Ok(cleaned(item)?.into_iter().map(unit).collect())
    }

    fn batch(&self) -> usize {
        ITEMS
    }

    fn worker(&self, ctx: &StageCtx) -> Result<Box<dyn MapWorker>, OpError> {
        Ok(Box::new(Judge::new(ctx, "filter")?))
    }

    fn assemble(&self, item: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError> {
        let mut sample = pairs::decode(item)?;
        for (text, result) in sample.texts.iter_mut().zip(results) {
            text.judge = Some(self.judge.to_string());
            text.kept = None;
            text.score = match result {
                UnitResult::Ok(bytes) => Some(decode_score(bytes)?),
                UnitResult::Bad(_) => None,
            };
        }
        Ok(sample.encode())
    }
}

/// The texts of an item as the filter reads them.
fn cleaned(item: &Item) -> Result<Vec<String>, OpError> {
    let sample = pairs::decode(item)?;
    Ok(sample
        .texts
        .iter()
        .map(|text| clean::caption(&text.text, clean::WORDS_MAX))
        .collect())
}

fn decode_score(bytes: &[u8]) -> Result<f64, OpError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| OpError::Bug("a score that is no number".to_owned()))?;
    Ok(f64::from_be_bytes(bytes))
}

/// A filter at work.
pub(crate) struct Judge {
    pub(crate) med: Med,
    pub(crate) vocab: Vocab,
    pub(crate) images: ImageEncoder,
}

impl Judge {
    /// The filter of an argument.
    pub(crate) fn new(ctx: &StageCtx, arg: &str) -> Result<Self, OpError> {
        let artifact = ctx.input(arg)?;
        let stored = Stored::read(ctx, artifact)?;
        let vocab = stored.vocab()?;
        let role = if artifact.ty == "Filter" {
            Role::Filter
        } else {
            Role::Pretrained
        };
        let med = stored.load(role, libtorch::best_device()?)?;
        let images = ImageEncoder::new(ctx, &med)?;
        Ok(Self { med, vocab, images })
    }
}

impl MapWorker for Judge {
    fn process(&mut self, _: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError> {
        let _turn = libtorch::turn()?;
        let texts = work
            .iter()
            .map(|work| cleaned(&work.item))
            .collect::<Result<Vec<_>, _>>()?;
        let images: Vec<Digest> = work.iter().map(|work| work.item.id).collect();
        let encoded = self.images.encode(&self.med, &images)?;
        let tokens: Vec<&Tensor> = encoded
            .iter()
            .filter_map(|encoded| encoded.as_ref().ok())
            .collect();
        let mut results: Vec<Vec<UnitResult>> = Vec::new();
        let mut pairs: Vec<(usize, &str)> = Vec::new();
        let mut slots: Vec<(usize, usize)> = Vec::new();
        let mut good = 0;
        for (at, (work, encoded)) in work.iter().zip(&encoded).enumerate() {
            let reason = encoded.as_ref().err().cloned().unwrap_or_default();
            results.push(vec![UnitResult::Bad(reason); work.missing.len()]);
            if encoded.is_err() {
                continue;
            }
            for (slot, missing) in work.missing.iter().enumerate() {
                let text = &texts[at][*missing];
                if self.vocab.knows_any(text) {
                    pairs.push((good, text));
                    slots.push((at, slot));
                } else {
                    results[at][slot] =
                        UnitResult::Bad("its text has no word of the vocabulary".to_owned());
                }
            }
            good += 1;
        }
        for ((at, slot), score) in
            slots
                .into_iter()
                .zip(match_scores(&self.med, &self.vocab, &tokens, &pairs))
        {
            results[at][slot] = UnitResult::Ok(score.to_be_bytes().to_vec());
        }
        Ok(results)
    }
}

/// Verdicts by source.
#[derive(Default)]
struct Counts {
    kept: BTreeMap<&'static str, u64>,
    rejected: BTreeMap<&'static str, u64>,
    borderline: u64,
}

fn run_select(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let threshold = ctx.args().float("threshold")?;
    let (mut kept, mut rejected) = (ctx.dataset_writer(), ctx.dataset_writer());
    let mut counts = Counts::default();
    let mut judged = (Few::default(), Few::default());
    for item in ctx.dataset(ctx.input("pairs")?)?.items() {
        let item = item?;
        let Sample { texts, truth } = pairs::decode(&item)?;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for mut text in texts {
            // What could not be judged is not kept: the point of filtering is to know.
            let keep = text.score.is_some_and(|score| score >= threshold);
            text.kept = Some(keep);
            counts.borderline += u64::from(
                text.score
                    .is_some_and(|score| (score - threshold).abs() <= BORDERLINE),
            );
            let (side, count) = if keep {
                (&mut good, &mut counts.kept)
            } else {
                (&mut bad, &mut counts.rejected)
            };
            *count.entry(source_name(text.source)).or_default() += 1;
            let shown = if keep { &mut judged.0 } else { &mut judged.1 };
            shown.add((
                text.score.unwrap_or(0.0),
                item.id,
                source_name(text.source),
                text.text.clone(),
            ));
            side.push(text);
        }
        for (texts, writer) in [(good, &mut kept), (bad, &mut rejected)] {
            if !texts.is_empty() {
                writer.add(
                    item.id,
                    Sample {
                        texts,
                        truth: truth.clone(),
                    }
                    .encode(),
                )?;
            }
        }
    }
    let rejected = rejected.finish()?;
    let output = kept.finish()?;
    if counts.kept.is_empty() && !counts.rejected.is_empty() {
        let total: u64 = counts.rejected.values().sum();
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
    let sheet = ctx.put(&sheet(ctx, threshold, judged)?)?;
    let side_outputs = vec![("rejected", rejected.digest), (SHEET, sheet)];
    Ok(Output {
        metrics: counts.metrics(),
        notes,
        side_outputs,
        ..output
    })
}

/// Score, image, source and text.
type Shown = (f64, Digest, &'static str, String);

/// Some of many pairs, as good as drawn at random and always the same: those of the lowest digests.
#[derive(Default)]
struct Few {
    pairs: BTreeMap<Digest, Shown>,
    seen: u64,
}

impl Few {
    fn add(&mut self, shown: Shown) {
        self.seen += 1;
        self.pairs.insert(
            Digest::parts("blip/shown/1", &[shown.1.as_bytes(), shown.3.as_bytes()]),
            shown,
        );
        if self.pairs.len() > FEW {
            self.pairs.pop_last();
        }
    }
}

/// A picture of some kept and some rejected pairs, spread evenly over their scores.
fn sheet(ctx: &StageCtx, threshold: f64, (kept, rejected): (Few, Few)) -> Result<Vec<u8>, OpError> {
    let images = Images::above(ctx)?;
    let title = format!(
        "{} kept, {} rejected at {threshold}",
        kept.seen, rejected.seen
    );
    let mut cards = Vec::new();
    for (few, kept) in [(kept, true), (rejected, false)] {
        let mut shown: Vec<Shown> = few.pairs.into_values().collect();
        shown.sort_by(|one, other| {
            other
                .0
                .total_cmp(&one.0)
                .then_with(|| (one.1, &one.3).cmp(&(other.1, &other.3)))
        });
        let count = SHEET_PAIRS.min(shown.len());
        for place in 0..count {
            let (score, image, source, text) =
                &shown[place * (shown.len() - 1) / (count - 1).max(1)];
            let Ok(picture) = decode(&images.bytes(image)?) else {
                continue;
            };
            let (text, source) = (text.clone(), (*source).to_owned());
            cards.push(Card {
                picture,
                text,
                source,
                score: Some(*score),
                kept,
            });
        }
    }
    Ok(contact_sheet(&title, &cards))
}

impl Counts {
    fn metrics(&self) -> Vec<(String, f64)> {
        let mut metrics = Vec::new();
        let mut sources: Vec<&str> = self
            .kept
            .keys()
            .chain(self.rejected.keys())
            .copied()
            .collect();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            let count =
                |counts: &BTreeMap<&str, u64>| counts.get(source).copied().unwrap_or(0) as f64;
            let (kept, rejected) = (count(&self.kept), count(&self.rejected));
            metrics.push((format!("kept_{source}"), kept));
            metrics.push((format!("rejected_{source}"), rejected));
        }
        metrics
    }
}

/// The word for a source, as in samples.
pub(crate) fn source_name(source: TextSource) -> &'static str {
    match source {
        TextSource::Web => "web",
        TextSource::Synthetic => "synthetic",
        TextSource::Human => "human",
    }
}
