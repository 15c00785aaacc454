//! `finetune_captioner`: finetunes a pretrained model on clean pairs to generate captions (LM),
//! each after a prompt.
//!
//! As salesforce/BLIP models/blip.py: the prompt's tokens are read, not trained; label smoothing
//! 0.1.

use std::collections::BTreeMap;

use blip_data::vocab::Vocab;
use blip_engine::{Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::loss::{IGNORE_INDEX, lm_loss};
use blip_model::pretrain::{Batch, Losses, with_first_token};
use blip_model::schedule::{self, StepPosition};
use blip_model::weights::Mismatch;
use blip_model::{ForwardMode, Med, Role};
use tch::Tensor;

use crate::finetune_filter::load_pretrained;
use crate::libtorch;
use crate::model;
use crate::training::{Objective, Recipe, TrainingPairs, args, train};
use crate::types::{CAPTIONER, MODEL, PAIRS};

/// Longest text in tokens, the prompt included.
pub(crate) const LENGTH: usize = 40;
const SMOOTHING: f64 = 0.1;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "finetune_captioner",
        CAPTIONER,
        "Finetunes a pretrained model on clean pairs to generate captions (LM).",
    )
    .example("finetune_captioner(base, human_pairs, epochs = 5, lr = 1e-5, seed = 42)")
    .arg(Arg::required("model", MODEL, "The pretrained model."))
    .arg(Arg::required("pairs", PAIRS, "Clean pairs."))
    .arg(args::epochs("5"))
    .arg(args::batch("256"))
    .arg(args::learning_rate("1e-5"))
    .arg(Arg::with_default(
        "prompt",
        Type::Str,
        "\"a picture of \"",
        "What every caption begins with; its tokens are not trained.",
    ))
    .arg(args::image());
    Op::run(args::common(signature, "0.5"), 1, run).numeric()
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args().clone();
    let (mut header, vocab, med) = load_pretrained(ctx, Role::Captioner)?;
    let prompt = args.string("prompt")?.to_owned();
    let length = LENGTH.min(med.config.text.positions as usize);
    let recipe = Recipe::new(&args, length, &prompt)?;
    let prompt_tokens = prompt_length(&vocab, &prompt);
    // At least one token of a caption and the one that ends it.
    if prompt_tokens + 2 > recipe.length {
        let what = format!(
            "the prompt has {prompt_tokens} tokens, which leaves no room for a caption within {}",
            recipe.length
        );
        return Err(OpError::failed(what, "shorten `prompt`"));
    }
    let pairs = TrainingPairs::read(ctx, ctx.input("pairs")?, &vocab)?;
    let _device = libtorch::lock_device()?;
    let mut objective = CaptioningObjective {
        peak: args.float("lr")?,
        epochs: recipe.epochs,
        prompt_tokens: prompt_tokens as i64,
        dec: vocab.special().dec,
    };
    let metrics = train(ctx, &recipe, &med, &pairs, &vocab, &mut objective)?;
    header.prompt = Some(prompt);
    Ok(Output {
        metrics,
        ..Output::of(model::put(ctx, &header, &med)?)
    })
}

/// Tokens of the prompt, including the one that begins a text: 4 for "a picture of ".
pub(crate) fn prompt_length(vocab: &Vocab, prompt: &str) -> usize {
    vocab.encode(prompt, usize::MAX).len() - 1
}

/// LM with the learning rates of finetuning.
struct CaptioningObjective {
    /// Peak learning rate.
    peak: f64,
    epochs: u64,
    prompt_tokens: i64,
    /// The id of `[DEC]`.
    dec: i64,
}

impl Objective for CaptioningObjective {
    fn learning_rate(&self, at: StepPosition) -> f64 {
        schedule::finetuning(at, self.peak, self.epochs)
    }

    fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        _: StepPosition,
        _: bool,
        pass: ForwardMode,
        _: &mut dyn FnMut() -> f64,
    ) -> Losses {
        let images = med.vision.forward(&batch.images, pass);
        let ids = with_first_token(self.dec, &batch.ids);
        let labels = ids.masked_fill(&batch.mask.logical_not(), IGNORE_INDEX);
        let _ = labels.narrow(1, 0, self.prompt_tokens).fill_(IGNORE_INDEX);
        let memory = med.decoder().text.cross_kv(&images, pass);
        let logits = med.decoder().logits(&ids, &memory, pass);
        Losses {
            lm: Some(lm_loss(&logits, &labels, SMOOTHING)),
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
