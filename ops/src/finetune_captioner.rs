//! `finetune_captioner`: a pretrained model learns on clean pairs to write captions (LM), each
//! after a prompt.
//!
//! As salesforce/BLIP models/blip.py: the prompt's tokens are read, not learnt; label smoothing
//! 0.1.

use std::collections::BTreeMap;

use blip_data::vocab::Vocab;
use blip_engine::{Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::loss::{IGNORED, language};
use blip_model::pretrain::{Batch, Losses, beginning_with};
use blip_model::schedule::{self, At};
use blip_model::weights::Mismatch;
use blip_model::{Med, Pass, Role};
use tch::Tensor;

use crate::finetune_filter::{image, pretrained};
use crate::libtorch;
use crate::model;
use crate::pretrain::{batch, common, rate};
use crate::training::{Learner, Pairs, Recipe, train};
use crate::types::{CAPTIONER, MODEL, PAIRS};

/// Longest text in tokens, the prompt included.
const LENGTH: usize = 40;
const SMOOTHING: f64 = 0.1;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "finetune_captioner",
        CAPTIONER,
        "Finetunes a pretrained model on clean pairs to write captions (LM).",
    )
    .example("finetune_captioner(base, human_pairs, epochs = 5, lr = 1e-5, seed = 42)")
    .arg(Arg::required("model", MODEL, "The pretrained model."))
    .arg(Arg::required("pairs", PAIRS, "Clean pairs."))
    .arg(
        Arg::with_default("epochs", Type::Int, "5", "Times that every pair is seen.")
            .within(1.0, 1e6),
    )
    .arg(batch("256"))
    .arg(rate("1e-5"))
    .arg(Arg::with_default(
        "prompt",
        Type::Str,
        "\"a picture of \"",
        "What every caption begins with; not learnt.",
    ))
    .arg(image());
    Op::run(common(signature, "0.5"), 1, run).numeric()
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args().clone();
    let (mut header, vocab, med) = pretrained(ctx, Role::Captioner)?;
    let prompt = args.text("prompt")?.to_owned();
    let recipe = Recipe::of(
        &args,
        LENGTH.min(med.config.text.positions as usize),
        &prompt,
    )?;
    let read = prompt_length(&vocab, &prompt);
    if read + 2 > recipe.length {
        let what = format!(
            "the prompt has {read} tokens, which leaves no room for a caption of at most {}",
            recipe.length
        );
        return Err(OpError::failed(what, "shorten `prompt`"));
    }
    let pairs = Pairs::read(ctx, ctx.input("pairs")?, &vocab)?;
    let _turn = libtorch::turn()?;
    let mut learner = Writing {
        peak: args.float("lr")?,
        epochs: recipe.epochs,
        prompt: read as i64,
        dec: vocab.special().dec,
    };
    let metrics = train(ctx, &recipe, &med, &pairs, &vocab, &mut learner)?;
    header.prompt = Some(prompt);
    Ok(Output {
        metrics,
        ..Output::of(model::put(ctx, &header, &med)?)
    })
}

/// Tokens of the prompt with the one that begins a text: 4 for "a picture of ".
pub(crate) fn prompt_length(vocab: &Vocab, prompt: &str) -> usize {
    vocab.encode(prompt, usize::MAX).len() - 1
}

/// LM with the schedule of finetuning.
struct Writing {
    peak: f64,
    epochs: u64,
    prompt: i64,
    dec: i64,
}

impl Learner for Writing {
    fn rate(&self, at: At) -> f64 {
        schedule::finetuning(at, self.peak, self.epochs)
    }

    fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        _: At,
        _: bool,
        pass: Pass,
        _: &mut dyn FnMut() -> f64,
    ) -> Losses {
        let images = med.vision.forward(&batch.images, pass);
        let ids = beginning_with(self.dec, &batch.ids);
        let labels = ids.masked_fill(&batch.mask.logical_not(), IGNORED);
        let _ = labels.narrow(1, 0, self.prompt).fill_(IGNORED);
        let memory = med.decoder().text.memory(&images, pass);
        let logits = med.decoder().logits(&ids, &memory, pass);
        Losses {
            lm: Some(language(&logits, &labels, SMOOTHING)),
            ..Losses::default()
        }
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    fn restore(&mut self, _: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        Ok(())
    }
}
