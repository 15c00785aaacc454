//! `finetune_filter`: a pretrained model learns on clean pairs which text belongs to which image
//! (ITC and ITM).
//!
//! As salesforce/BLIP's retrieval finetuning (models/blip_retrieval.py): texts of the same image
//! are all matches in ITC and never negatives of it in ITM.

use blip_data::vocab::Vocab;
use blip_engine::{Args, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::med::finetuning_tensors;
use blip_model::pretrain::{Objectives, Settings, Teacher};
use blip_model::{Med, Role, schedule};

use crate::libtorch;
use crate::model::{self, Header, Stored};
use crate::pretrain::{Contrastive, alpha, batch, common, queue, rate, tokens};
use crate::training::{Pairs, Recipe, start_seed, train};
use crate::types::{FILTER, MODEL, PAIRS};

/// Longest text in tokens.
const LENGTH: usize = 35;
/// Epochs over which the teacher's share in the targets grows.
const ALPHA_EPOCHS: u64 = 1;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "finetune_filter",
        FILTER,
        "Finetunes a pretrained model on clean pairs to tell matching from unmatching ones (ITC and ITM).",
    )
    .example("finetune_filter(base, human_pairs, epochs = 6, lr = 1e-5, seed = 42)")
    .arg(Arg::required("model", MODEL, "The pretrained model."))
    .arg(Arg::required("pairs", PAIRS, "Clean pairs."))
    .arg(Arg::with_default("epochs", Type::Int, "6", "Times that every pair is seen.").within(1.0, 1e6))
    .arg(batch("256"))
    .arg(rate("1e-5"))
    .arg(queue("57600"))
    .arg(alpha())
    .arg(image());
    Op::run(common(signature, "0.5"), 2, run).numeric()
}

/// The side of the images that a finetuned model takes.
pub(crate) fn image() -> Arg {
    Arg::optional(
        "image",
        Type::Int,
        "Side of the images in pixels, when it is to be another than in pretraining: 384 in the paper after 224.",
    )
    .within(4.0, 4096.0)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args().clone();
    let (header, vocab, med) = pretrained(ctx, Role::Filter)?;
    let recipe = Recipe::of(&args, LENGTH.min(med.config.text.positions as usize), "")?;
    let pairs = Pairs::read(ctx, ctx.input("pairs")?, &vocab)?;
    let _turn = libtorch::turn()?;
    let objectives = Objectives {
        itc: true,
        itm: true,
        lm: false,
    };
    let settings = Settings {
        objectives,
        queue: args.int("queue")?,
        aware: true,
        smoothing: 0.0,
    };
    tch::manual_seed(start_seed(recipe.seed).cast_signed());
    let (peak, epochs) = (args.float("lr")?, recipe.epochs);
    let mut learner = Contrastive {
        teacher: Teacher::new(&med, settings, tokens(&vocab)),
        rate: Box::new(move |at| schedule::finetuning(at, peak, epochs)),
        alpha: (args.float("alpha")?, ALPHA_EPOCHS),
    };
    let metrics = train(ctx, &recipe, &med, &pairs, &vocab, &mut learner)?;
    Ok(Output {
        metrics,
        ..Output::of(model::put(ctx, &header, &med)?)
    })
}

/// The pretrained model of a finetuning as the model that comes of it, for images of the size that
/// is asked for.
pub(crate) fn pretrained(ctx: &StageCtx, role: Role) -> Result<(Header, Vocab, Med), OpError> {
    let mut stored = Stored::read(ctx, ctx.input("model")?)?;
    stored.resize(ctx.args().optional("image", Args::int)?)?;
    let vocab = stored.vocab()?;
    let start = finetuning_tensors(&stored.tensors, &stored.header.config, role);
    let med = Med::load(
        &stored.header.config,
        role,
        &start,
        libtorch::best_device()?,
    )
    .map_err(|error| {
        OpError::Bug(format!(
            "a pretrained model lacks parts of what it is finetuned to: {error}"
        ))
    })?;
    Ok((stored.header, vocab, med.with_gradients()))
}
