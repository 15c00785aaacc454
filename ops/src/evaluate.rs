//! `evaluate`: numbers about a model on pairs that it was not trained on.
//!
//! A captioner: perplexity of the pairs' texts, and for generated scenes the fraction of its
//! captions that name every attribute right. A filter: how well its ITM head tells matching from
//! mismatched texts, and retrieval by ITC. A pretrained model: all but the captions.

mod captioning;
mod matching;
mod retrieval;

use blip_data::scenes::Scene;
use blip_data::{Sample, clean};
use blip_engine::{Digest, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::Role;

use self::captioning::{accuracy, perplexity};
use self::matching::match_metrics;
use self::retrieval::retrieval;
use crate::filter::FilterScorer;
use crate::pairs::decode_sample;
use crate::types::{CAPTIONER, FILTER, METRICS, MODEL, PAIRS};

const EVALUATED: Type = Type::OneOf(&[MODEL, CAPTIONER, FILTER]);

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "evaluate",
        METRICS,
        "Evaluates a model on pairs it was not trained on. A captioner: `perplexity`, and on \
         generated scenes `accuracy`, the fraction of captions that name every attribute correctly \
         and no other. A filter: `auc`, `precision` and `recall` of telling an image's texts from \
         as many texts of other images, and retrieval: `text_recall@k` (texts for an image) and \
         `image_recall@k`. A pretrained model: all but `accuracy`.",
    )
    .example("evaluate(captioner, read.scenes(split = \"test\", count = 200, seed = 7))")
    .arg(Arg::required("model", EVALUATED, "The model."))
    .arg(Arg::required("pairs", PAIRS, "The pairs to evaluate on."))
    .arg(
        Arg::with_default(
            "threshold",
            Type::Float,
            "0.5",
            "Minimum probability of a match at which a text counts as kept, for `precision` and \
             `recall`: that of the `filter`.",
        )
        .within(0.0, 1.0),
    );
    Op::run(signature, 2, run).numeric()
}

/// A value under its name in the result.
type Metric = (String, f64);

/// An image with its texts, cleaned, and its ground truth where it is known.
struct Case {
    image: Digest,
    texts: Vec<String>,
    scene: Option<Scene>,
}

impl Case {
    /// Whether a text describes the image: by the ground truth where it is known, else by being one
    /// of the image's own texts.
    fn matches(&self, text: &str) -> bool {
        match &self.scene {
            Some(scene) => scene.matches(text),
            None => self.has_text(text),
        }
    }

    fn has_text(&self, text: &str) -> bool {
        self.texts.iter().any(|own| own == text)
    }
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let cases = read_cases(ctx)?;
    let ty = ctx.input("model")?.ty.clone();
    let (mut metrics, mut notes) = (Vec::new(), Vec::new());
    if ty == "Captioner" {
        metrics.extend(accuracy(ctx, &cases)?);
        metrics.push(perplexity(ctx, Role::Captioner, &cases)?);
    } else {
        let scorer = FilterScorer::new(ctx, "model")?;
        let threshold = ctx.args().float("threshold")?;
        let (matching, note) = match_metrics(ctx, &scorer, &cases, threshold)?;
        metrics.extend(matching);
        notes.extend(note);
        metrics.extend(retrieval(ctx, &scorer, &cases)?);
        if ty == "Model" {
            metrics.push(perplexity(ctx, Role::Pretrained, &cases)?);
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
        notes,
        ..Output::of(ctx.put(&bytes)?)
    })
}

fn read_cases(ctx: &StageCtx) -> Result<Vec<Case>, OpError> {
    let pairs = ctx.input("pairs")?;
    let mut cases = Vec::new();
    for item in ctx.dataset(pairs)?.items() {
        let item = item?;
        let Sample {
            texts,
            ground_truth: truth,
        } = decode_sample(&item)?;
        let texts = texts
            .iter()
            .map(|text| clean::caption(&text.text, clean::WORDS_MAX))
            .collect();
        cases.push(Case {
            image: item.id,
            texts,
            scene: truth.as_ref().and_then(Scene::from_ground_truth),
        });
    }
    if cases.is_empty() {
        let what = format!("`{}` has no pairs to evaluate on", pairs.stage);
        return Err(OpError::failed(what, "check why the dataset is empty"));
    }
    Ok(cases)
}

fn images_of(cases: &[Case]) -> Vec<Digest> {
    cases.iter().map(|case| case.image).collect()
}
