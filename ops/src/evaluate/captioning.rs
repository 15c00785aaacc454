//! How well a model generates captions: accuracy on generated scenes, and perplexity.

use std::collections::BTreeSet;

use blip_data::vocab::Vocab;
use blip_engine::{Args, OpError, StageCtx};
use blip_grammar::{Arguments, Value};
use blip_model::loss::{IGNORE_INDEX, lm_loss};
use blip_model::{ForwardMode, Med, Role};
use tch::{Kind, Tensor};

use super::{Case, Metric, images_of};
use crate::caption::Captioner;
use crate::finetune_captioner::{LENGTH, prompt_length};
use crate::inference::{ITEMS, ImageEncoder, ROWS, stack_padded};
use crate::libtorch;
use crate::model::StoredModel;
use crate::training::pad;

/// The fraction of beam search's captions that describe their scene exactly; `None` when no image
/// is a generated scene.
pub(super) fn accuracy(ctx: &StageCtx, cases: &[Case]) -> Result<Option<Metric>, OpError> {
    let scenes: Vec<&Case> = cases.iter().filter(|case| case.scene.is_some()).collect();
    if scenes.is_empty() {
        return Ok(None);
    }
    let captioner = Captioner::new(ctx, "model", &beam(), 0)?;
    let mut correct = 0_usize;
    for batch in scenes.chunks(ITEMS) {
        ctx.check_interrupted()?;
        let images: Vec<_> = batch.iter().map(|case| case.image).collect();
        let numbers = vec![BTreeSet::from([0]); images.len()];
        let generated = captioner.generate(&images, &numbers)?;
        for (case, texts) in batch.iter().zip(generated) {
            let texts = texts.unwrap_or_default();
            correct += usize::from(texts.iter().any(|text| case.matches(text)));
        }
    }
    let accuracy = correct as f64 / scenes.len() as f64;
    Ok(Some(("accuracy".to_owned(), accuracy)))
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
pub(super) fn perplexity(ctx: &StageCtx, role: Role, cases: &[Case]) -> Result<Metric, OpError> {
    let stored = StoredModel::read(ctx, ctx.input("model")?)?;
    let vocab = stored.vocab()?;
    let prompt = stored.header.prompt.clone().unwrap_or_default();
    let prompt_tokens = prompt_length(&vocab, &prompt) as i64;
    let length = LENGTH.min(stored.header.config.text.positions as usize);
    let _device = libtorch::lock_device()?;
    let med = stored.load(role, libtorch::best_device()?)?;
    let images = ImageEncoder::new(ctx, &med)?;
    let (mut sum, mut count) = (0.0, 0.0);
    for batch in cases.chunks(ITEMS) {
        ctx.check_interrupted()?;
        let encoded = images.encode(&med, &images_of(batch))?;
        let mut rows: Vec<(&Tensor, Vec<i64>)> = Vec::new();
        for (case, encoded) in batch.iter().zip(&encoded) {
            let Ok(tokens) = encoded else { continue };
            for text in &case.texts {
                if vocab.knows_any(text) {
                    rows.push((tokens, vocab.encode(&format!("{prompt}{text}"), length)));
                }
            }
        }
        for rows in rows.chunks(ROWS) {
            let (loss, tokens) = mean_loss(&med, &vocab, rows, prompt_tokens);
            sum += loss * tokens;
            count += tokens;
        }
    }
    if count == 0.0 {
        return Err(OpError::failed(
            "no word of any text is in the model's vocabulary",
            "evaluate on pairs in the language that the model was trained on",
        ));
    }
    Ok(("perplexity".to_owned(), (sum / count).exp()))
}

/// Mean negative log-likelihood of the tokens after the prompt, and how many there are.
fn mean_loss(
    med: &Med,
    vocab: &Vocab,
    rows: &[(&Tensor, Vec<i64>)],
    prompt_tokens: i64,
) -> (f64, f64) {
    let mut texts: Vec<Vec<i64>> = rows.iter().map(|(_, ids)| ids.clone()).collect();
    for ids in &mut texts {
        ids[0] = vocab.special().dec;
    }
    let (ids, mask) = pad(&texts, vocab.special().pad);
    let ids = ids.to_device(med.device());
    let mask = mask.to_device(med.device());
    let labels = ids.masked_fill(&mask.logical_not(), IGNORE_INDEX);
    let _ = labels.narrow(1, 0, prompt_tokens).fill_(IGNORE_INDEX);
    let tokens: Vec<&Tensor> = rows.iter().map(|(tokens, _)| *tokens).collect();
    let loss = tch::no_grad(|| {
        let images = stack_padded(&tokens).narrow(0, 0, rows.len() as i64);
        let memory = med.decoder().text.cross_kv(&images, ForwardMode::EVAL);
        let logits = med.decoder().logits(&ids, &memory, ForwardMode::EVAL);
        lm_loss(&logits, &labels, 0.0)
    });
    let count = labels.ne(IGNORE_INDEX).sum(Kind::Int64).int64_value(&[]);
    (loss.double_value(&[]), count as f64)
}
