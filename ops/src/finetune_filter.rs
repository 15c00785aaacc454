//! `finetune_filter`: a pretrained model learns on clean pairs which text belongs to which image (ITC and ITM).
//!
//! As salesforce/BLIP's retrieval finetuning (models/blip_retrieval.py): texts of the same image are all matches in ITC and
//! never negatives of it in ITM.

use std::collections::BTreeMap;

use blip_engine::{Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::med::finetuning_tensors;
use blip_model::pretrain::{Batch, Losses, Objectives, Settings, Teacher};
use blip_model::schedule::{self, At};
use blip_model::weights::Mismatch;
use blip_model::{Med, Pass, Role, device};
use tch::Tensor;

use crate::model::{self, Header, Stored};
use crate::pretrain::{alpha, batch, common, queue, rate, tokens};
use crate::training::{Learner, Pairs, Recipe, start_seed, train};
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
    Op::run(common(signature, "0.5"), 1, run).numeric()
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
    let mut stored = Stored::read(ctx, ctx.input("model")?)?;
    stored.resize(args.optional("image", blip_engine::Args::int)?)?;
    let vocab = stored.vocab()?;
    let config = stored.header.config.clone();
    let recipe = Recipe::of(&args, LENGTH.min(config.text.positions as usize), "")?;
    let pairs = Pairs::read(ctx, ctx.input("pairs")?, &vocab)?;
    let _turn = device::exclusive();
    let start = finetuning_tensors(&stored.tensors, &config, Role::Filter);
    let med = Med::load(&config, Role::Filter, &start, device::best())
        .map_err(|error| OpError::Bug(format!("a pretrained model lacks parts of a filter: {error}")))?
        .with_gradients();
    let objectives = Objectives { itc: true, itm: true, lm: false };
    let settings = Settings { objectives, queue: args.int("queue")?, aware: true, smoothing: 0.0 };
    tch::manual_seed(start_seed(recipe.seed).cast_signed());
    let mut learner = Matching {
        teacher: Teacher::new(&med, settings, tokens(&vocab)),
        peak: args.float("lr")?,
        epochs: recipe.epochs,
        alpha: args.float("alpha")?,
    };
    let metrics = train(ctx, &recipe, &med, &pairs, &vocab, &mut learner)?;
    let header = Header::new(config, stored.header.vocab, None);
    Ok(Output { metrics, ..Output::of(model::put(ctx, &header, &med)?) })
}

/// ITC and ITM with the schedule of finetuning.
struct Matching {
    teacher: Teacher,
    peak: f64,
    epochs: u64,
    alpha: f64,
}

impl Learner for Matching {
    fn rate(&self, at: At) -> f64 {
        schedule::finetuning(at, self.peak, self.epochs)
    }

    fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        at: At,
        first: bool,
        pass: Pass,
        unit: &mut dyn FnMut() -> f64,
    ) -> Losses {
        let alpha = schedule::alpha(at, self.alpha, ALPHA_EPOCHS);
        self.teacher.losses(med, batch, alpha, first, pass, unit)
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.teacher.state()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        self.teacher.restore(state)
    }
}
