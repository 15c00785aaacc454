//! `evaluate`: numbers about a model on pairs that it was not trained on.
//!
//! A captioner: perplexity of its pairs' texts, and for generated scenes the share of its captions
//! that name every attribute right. A filter: how well its ITM head tells matching from unmatching
//! texts. A filter or a pretrained model: retrieval by ITC. A pretrained model: perplexity too.

use std::collections::BTreeSet;

use blip_data::scenes::Scene;
use blip_data::vocab::Vocab;
use blip_data::{Sample, clean};
use blip_engine::{Args, Digest, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Arguments, Signature, Type, Value};
use blip_model::loss::{IGNORED, language};
use blip_model::{Med, Pass, Role};
use tch::{Kind, Tensor};

use crate::caption::Writer;
use crate::filter::Judge;
use crate::finetune_captioner::prompt_length;
use crate::inference::{ITEMS, ImageEncoder, ROWS, match_scores, rows_of};
use crate::libtorch;
use crate::model::Stored;
use crate::pairs;
use crate::training::pad;
use crate::types::{CAPTIONER, FILTER, METRICS, MODEL, PAIRS};

const EVALUATED: Type = Type::OneOf(&[MODEL, CAPTIONER, FILTER]);
/// The score from which on a text counts as matching, as in the paper.
const THRESHOLD: f64 = 0.5;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "evaluate",
        METRICS,
        "Measures a model on pairs it has not seen. A captioner: `perplexity`, and for scenes `accuracy`, the share of captions \
         that name every attribute right and no other. A filter: `auc`, `precision` and `recall` of telling matching from \
         unmatching texts, and retrieval: `text_recall@k` (texts for an image) and `image_recall@k`. A pretrained model: \
         all but `accuracy`.",
    )
    .example("evaluate(captioner, read.scenes(split = \"test\", count = 200, seed = 7))")
    .arg(Arg::required("model", EVALUATED, "What is measured."))
    .arg(Arg::required("pairs", PAIRS, "What it is measured on."));
    Op::run(signature, 1, run).numeric()
}

/// An image with its texts, cleaned, and which of them match it as far as that is known.
struct Case {
    image: Digest,
    texts: Vec<String>,
    scene: Option<Scene>,
}

impl Case {
    /// Whether a text describes the image; by the truth where it is known, else by being one of its
    /// own.
    fn matches(&self, text: &str) -> bool {
        self.scene.as_ref().map_or_else(
            || self.texts.iter().any(|own| own == text),
            |scene| scene.matches(text),
        )
    }
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let cases = cases(ctx)?;
    let ty = ctx.input("model")?.ty.clone();
    let mut metrics = Vec::new();
    if ty == "Captioner" {
        metrics.extend(accuracy(ctx, &cases)?);
        metrics.push((
            "perplexity".to_owned(),
            perplexity(ctx, Role::Captioner, &cases)?,
        ));
    } else {
        let judge = Judge::new(ctx, "model")?;
        let found = judged(ctx, &judge, &cases)?;
        metrics.extend(found);
        metrics.extend(retrieval(ctx, &judge, &cases)?);
        if ty == "Model" {
            metrics.push((
                "perplexity".to_owned(),
                perplexity(ctx, Role::Pretrained, &cases)?,
            ));
        }
    }
    metrics.push(("images".to_owned(), cases.len() as f64));
    let object: serde_json::Map<String, serde_json::Value> = metrics
        .iter()
        .map(|(name, value)| (name.clone(), (*value).into()))
        .collect();
    let bytes = serde_json::to_vec(&object).expect("numbers under names are plain data");
    Ok(Output {
        metrics,
        ..Output::of(ctx.put(&bytes)?)
    })
}

fn cases(ctx: &StageCtx) -> Result<Vec<Case>, OpError> {
    let pairs = ctx.input("pairs")?;
    let mut cases = Vec::new();
    for item in ctx.dataset(pairs)?.items() {
        let item = item?;
        let Sample { texts, truth } = pairs::decode(&item)?;
        let texts = texts
            .iter()
            .map(|text| clean::caption(&text.text, clean::WORDS_MAX))
            .collect();
        cases.push(Case {
            image: item.id,
            texts,
            scene: truth.as_ref().and_then(Scene::of_truth),
        });
    }
    if cases.is_empty() {
        let what = format!("`{}` has no pair to measure on", pairs.stage);
        return Err(OpError::failed(what, "look at its items"));
    }
    Ok(cases)
}

/// The share of beam search's captions that describe their scene exactly.
fn accuracy(ctx: &StageCtx, cases: &[Case]) -> Result<Option<(String, f64)>, OpError> {
    let cases: Vec<&Case> = cases.iter().filter(|case| case.scene.is_some()).collect();
    if cases.is_empty() {
        return Ok(None);
    }
    let writer = Writer::new(ctx, "model", &beam(), 0)?;
    let mut right = 0_usize;
    for part in cases.chunks(ITEMS) {
        ctx.check_interrupted()?;
        let images: Vec<Digest> = part.iter().map(|case| case.image).collect();
        let numbers = vec![BTreeSet::from([0]); images.len()];
        let written = writer.write(&images, &numbers)?;
        let good = |(case, texts): &(&&Case, Result<Vec<String>, String>)| {
            texts
                .as_ref()
                .is_ok_and(|texts| texts.iter().any(|text| case.matches(text)))
        };
        right += part.iter().zip(written).filter(good).count();
    }
    Ok(Some((
        "accuracy".to_owned(),
        right as f64 / cases.len() as f64,
    )))
}

/// Beam search with the settings of the paper's evaluation.
fn beam() -> Args {
    let values = [
        ("beams", Value::Int(3)),
        ("length_penalty", Value::Float(1.0)),
        ("min_length", Value::Int(5)),
        ("max_length", Value::Int(20)),
        ("repetition_penalty", Value::Float(1.0)),
    ];
    Args::new("beam", Arguments::from(values))
}

/// e to the mean negative log-likelihood of a token, given the image and the tokens before it.
fn perplexity(ctx: &StageCtx, role: Role, cases: &[Case]) -> Result<f64, OpError> {
    let stored = Stored::read(ctx, ctx.input("model")?)?;
    let vocab = stored.vocab()?;
    let prompt = stored.header.prompt.clone().unwrap_or_default();
    let read = prompt_length(&vocab, &prompt) as i64;
    let room = stored.header.config.text.positions.min(40) as usize;
    let _turn = libtorch::turn()?;
    let med = stored.load(role, libtorch::best_device()?)?;
    let images = ImageEncoder::new(ctx, &med)?;
    let (mut sum, mut count) = (0.0, 0.0);
    for part in cases.chunks(ITEMS) {
        ctx.check_interrupted()?;
        let digests: Vec<Digest> = part.iter().map(|case| case.image).collect();
        let encoded = images.encode(&med, &digests)?;
        let mut rows: Vec<(&Tensor, Vec<i64>)> = Vec::new();
        for (case, encoded) in part.iter().zip(&encoded) {
            let Ok(tokens) = encoded else { continue };
            let texts = case.texts.iter().filter(|text| vocab.knows_any(text));
            rows.extend(texts.map(|text| (tokens, vocab.encode(&format!("{prompt}{text}"), room))));
        }
        for rows in rows.chunks(ROWS) {
            let (loss, tokens) = likelihood(&med, &vocab, rows, read);
            sum += loss * tokens;
            count += tokens;
        }
    }
    if count == 0.0 {
        return Err(OpError::failed(
            "no text has a word of the model's vocabulary",
            "measure on pairs of its language",
        ));
    }
    Ok((sum / count).exp())
}

/// Mean negative log-likelihood of the tokens behind the prompt, and how many there are.
fn likelihood(med: &Med, vocab: &Vocab, rows: &[(&Tensor, Vec<i64>)], read: i64) -> (f64, f64) {
    let mut texts: Vec<Vec<i64>> = rows.iter().map(|(_, ids)| ids.clone()).collect();
    texts
        .iter_mut()
        .for_each(|ids| ids[0] = vocab.special().dec);
    let (ids, mask) = pad(&texts, vocab.special().pad);
    let (ids, mask) = (ids.to_device(med.device()), mask.to_device(med.device()));
    let labels = ids.masked_fill(&mask.logical_not(), IGNORED);
    let _ = labels.narrow(1, 0, read).fill_(IGNORED);
    let tokens: Vec<&Tensor> = rows.iter().map(|(tokens, _)| *tokens).collect();
    let loss = tch::no_grad(|| {
        let memory = med.decoder().text.memory(
            &rows_of(&tokens).narrow(0, 0, rows.len() as i64),
            Pass::EVAL,
        );
        language(
            &med.decoder().logits(&ids, &memory, Pass::EVAL),
            &labels,
            0.0,
        )
    });
    (
        loss.double_value(&[]),
        labels.ne(IGNORED).sum(Kind::Int64).int64_value(&[]) as f64,
    )
}

/// How well the ITM head tells an image's texts from those of other images, and right ones from
/// wrong ones.
fn judged(ctx: &StageCtx, judge: &Judge, cases: &[Case]) -> Result<Vec<(String, f64)>, OpError> {
    let _turn = libtorch::turn()?;
    let mut scored: Vec<(f64, bool)> = Vec::new();
    for (start, part) in (0..).step_by(ITEMS).zip(cases.chunks(ITEMS)) {
        ctx.check_interrupted()?;
        let digests: Vec<Digest> = part.iter().map(|case| case.image).collect();
        let encoded = judge.images.encode(&judge.med, &digests)?;
        let tokens: Vec<&Tensor> = encoded
            .iter()
            .filter_map(|encoded| encoded.as_ref().ok())
            .collect();
        let good = part
            .iter()
            .enumerate()
            .filter(|(at, _)| encoded[*at].is_ok());
        let (mut pairs, mut labels) = (Vec::new(), Vec::new());
        for (image, (at, case)) in good.enumerate() {
            for text in case.texts.iter().chain(foreign(cases, start + at)) {
                pairs.push((image, text.as_str()));
                labels.push(case.matches(text));
            }
        }
        scored.extend(
            match_scores(&judge.med, &judge.vocab, &tokens, &pairs)
                .into_iter()
                .zip(labels),
        );
    }
    Ok(decisions(&mut scored))
}

/// A text of the next image that does not describe this one.
fn foreign(cases: &[Case], at: usize) -> Option<&String> {
    let others = (1..cases.len()).map(|step| &cases[(at + step) % cases.len()]);
    others
        .take(64)
        .flat_map(|other| &other.texts)
        .find(|text| !cases[at].matches(text))
}

/// AUC, and precision and recall at the threshold; what cannot be said is left out.
fn decisions(scored: &mut [(f64, bool)]) -> Vec<(String, f64)> {
    let mut metrics = Vec::new();
    metrics.extend(auc(scored).map(|auc| ("auc".to_owned(), auc)));
    let count = |wanted: &dyn Fn(f64, bool) -> bool| {
        scored
            .iter()
            .filter(|(score, matches)| wanted(*score, *matches))
            .count() as f64
    };
    let both = count(&|score, matches| score >= THRESHOLD && matches);
    let (kept, matching) = (
        count(&|score, _| score >= THRESHOLD),
        count(&|_, matches| matches),
    );
    if kept > 0.0 {
        metrics.push(("precision".to_owned(), both / kept));
    }
    if matching > 0.0 {
        metrics.push(("recall".to_owned(), both / matching));
    }
    metrics
}

/// The probability that a matching pair scores higher than an unmatching one, ties counting half.
fn auc(scored: &mut [(f64, bool)]) -> Option<f64> {
    scored.sort_by(|one, other| one.0.total_cmp(&other.0));
    let matching = scored.iter().filter(|(_, matches)| *matches).count() as f64;
    let others = scored.len() as f64 - matching;
    let (mut below, mut sum) = (0.0, 0.0);
    for ties in scored.chunk_by(|one, other| one.0 == other.0) {
        let good = ties.iter().filter(|(_, matches)| *matches).count() as f64;
        let bad = ties.len() as f64 - good;
        sum += good * (below + bad / 2.0);
        below += bad;
    }
    (matching > 0.0 && others > 0.0).then(|| sum / (matching * others))
}

/// Recall at 1, 5 and 10 by ITC. A text is right for an image when it is its own or reads the same
/// as one of its own.
fn retrieval(ctx: &StageCtx, judge: &Judge, cases: &[Case]) -> Result<Vec<(String, f64)>, OpError> {
    let _turn = libtorch::turn()?;
    let features = &judge.med.encoder().features;
    let (mut images, mut texts, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    let mut known: Vec<&Case> = Vec::new();
    for part in cases.chunks(ITEMS) {
        ctx.check_interrupted()?;
        let digests: Vec<Digest> = part.iter().map(|case| case.image).collect();
        for (case, encoded) in part.iter().zip(judge.images.encode(&judge.med, &digests)?) {
            let Ok(tokens) = encoded else { continue };
            images.push(tch::no_grad(|| {
                features.images(&tokens.unsqueeze(0), Pass::EVAL)
            }));
            let room = judge.med.config.text.positions.min(35) as usize;
            for text in case.texts.iter().filter(|text| judge.vocab.knows_any(text)) {
                let ids = Tensor::from_slice(&judge.vocab.encode(text, room))
                    .unsqueeze(0)
                    .to_device(judge.med.device());
                let mask = ids.ones_like().to_kind(Kind::Bool);
                texts.push(tch::no_grad(|| features.texts(&ids, &mask, Pass::EVAL)));
                owners.push((known.len(), text.as_str()));
            }
            known.push(case);
        }
    }
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let similar = Tensor::cat(&images, 0).matmul(&Tensor::cat(&texts, 0).tr()); // (images, texts)
    let right = |image: usize, text: usize| {
        owners[text].0 == image || known[image].texts.iter().any(|own| own == owners[text].1)
    };
    let for_images = ranks(&similar, right);
    let for_texts = ranks(&similar.tr(), |text, image| right(image, text));
    let mut metrics = Vec::new();
    for (name, ranks) in [("text_recall", for_images), ("image_recall", for_texts)] {
        for k in [1, 5, 10] {
            let hits = ranks
                .iter()
                .filter(|rank| rank.is_some_and(|rank| rank < k))
                .count();
            metrics.push((format!("{name}@{k}"), hits as f64 / ranks.len() as f64));
        }
    }
    Ok(metrics)
}

/// For every row the rank of its best right column, ties going to the lower column.
fn ranks(similar: &Tensor, right: impl Fn(usize, usize) -> bool) -> Vec<Option<usize>> {
    let rows = Vec::<Vec<f32>>::try_from(&similar.contiguous()).expect("a table of floats");
    let rank = |(row, values): (usize, &Vec<f32>)| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|one, other| values[*other].total_cmp(&values[*one]).then(one.cmp(other)));
        order.into_iter().position(|column| right(row, column))
    };
    rows.iter().enumerate().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_and_decisions_are_those_of_the_textbook() {
        let mut scored = vec![(0.1, false), (0.4, true), (0.35, false), (0.8, true)];
        assert_eq!(auc(&mut scored), Some(1.0));
        assert_eq!(auc(&mut [(0.5, false), (0.5, true)]), Some(0.5));
        assert_eq!(auc(&mut [(0.5, true)]), None);
        let mut scored = vec![(0.9, true), (0.6, false), (0.2, true), (0.1, false)];
        let found = decisions(&mut scored);
        assert_eq!(found[0], ("auc".to_owned(), 0.75));
        assert_eq!(
            found[1..],
            [("precision".to_owned(), 0.5), ("recall".to_owned(), 0.5)]
        );
    }

    #[test]
    fn ranks_are_of_the_best_right_one() {
        let similar = Tensor::from_slice2(&[[0.1_f32, 0.9, 0.5], [0.3, 0.3, 0.2]]);
        assert_eq!(
            ranks(&similar, |row, column| row == 0 && column != 1),
            [Some(1), None]
        );
        assert_eq!(ranks(&similar, |_, column| column == 1), [Some(0), Some(1)]);
    }
}
