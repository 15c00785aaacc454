//! `finetune_filter`: finetunes a pretrained model on clean pairs to tell matching from mismatched
//! pairs (ITC and ITM).
//!
//! As salesforce/BLIP's retrieval finetuning (models/blip_retrieval.py): texts of the same image
//! are all matches in ITC and never negatives of it in ITM.

use blip_data::vocab::Vocab;
use blip_engine::{Args, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature};
use blip_model::med::finetuning_tensors;
use blip_model::pretrain::{LossConfig, MomentumEncoder, Objectives};
use blip_model::{Med, Role, schedule};

use crate::libtorch;
use crate::model::{self, Header, StoredModel};
use crate::pretrain::{MomentumObjective, tokens};
use crate::training::{Recipe, TrainingPairs, args, start_seed, train};
use crate::types::{FILTER, MODEL, PAIRS};

/// Longest text in tokens.
const LENGTH: usize = 35;
/// Epochs over which the weight of the momentum encoders' targets grows to `alpha`.
const ALPHA_EPOCHS: u64 = 1;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "finetune_filter",
        FILTER,
        "Finetunes a pretrained model on clean pairs to tell matching from mismatched pairs (ITC \
         and ITM).",
    )
    .example("finetune_filter(base, human_pairs, epochs = 6, lr = 1e-5, seed = 42)")
    .arg(Arg::required("model", MODEL, "The pretrained model."))
    .arg(Arg::required("pairs", PAIRS, "Clean pairs."))
    .arg(args::epochs("6"))
    .arg(args::batch("256"))
    .arg(args::learning_rate("1e-5"))
    .arg(args::queue("57600"))
    .arg(args::alpha())
    .arg(args::image());
    Op::run(args::common(signature, "0.5"), 2, run).numeric()
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args().clone();
    let (header, vocab, med) = load_pretrained(ctx, Role::Filter)?;
    let length = LENGTH.min(med.config.text.positions as usize);
    let recipe = Recipe::new(&args, length, "")?;
    let pairs = TrainingPairs::read(ctx, ctx.input("pairs")?, &vocab)?;
    let _device = libtorch::lock_device()?;
    let objectives = Objectives {
        itc: true,
        itm: true,
        lm: false,
    };
    let settings = LossConfig {
        objectives,
        queue: args.int("queue")?,
        same_image_is_positive: true,
        smoothing: 0.0,
    };
    // The queue starts with random features.
    tch::manual_seed(start_seed(recipe.seed).cast_signed());
    let (peak, epochs) = (args.float("lr")?, recipe.epochs);
    let mut objective = MomentumObjective {
        momentum: MomentumEncoder::new(&med, settings, tokens(&vocab)),
        learning_rate: Box::new(move |at| schedule::finetuning(at, peak, epochs)),
        alpha: args.float("alpha")?,
        alpha_epochs: ALPHA_EPOCHS,
    };
    let metrics = train(ctx, &recipe, &med, &pairs, &vocab, &mut objective)?;
    Ok(Output {
        metrics,
        ..Output::of(model::put(ctx, &header, &med)?)
    })
}

/// Loads the pretrained model of a finetuning in its new role, resized to the images of the
/// argument `image`.
pub(crate) fn load_pretrained(ctx: &StageCtx, role: Role) -> Result<(Header, Vocab, Med), OpError> {
    let mut stored = StoredModel::read(ctx, ctx.input("model")?)?;
    stored.resize(ctx.args().optional("image", Args::int)?)?;
    let vocab = stored.vocab()?;
    let tensors = finetuning_tensors(&stored.tensors, &stored.header.config, role);
    let device = libtorch::best_device()?;
    let med = Med::load(&stored.header.config, role, &tensors, device).map_err(|error| {
        OpError::Bug(format!(
            "a pretrained model lacks tensors of the model it is finetuned to: {error}"
        ))
    })?;
    Ok((stored.header, vocab, med.with_gradients()))
}
