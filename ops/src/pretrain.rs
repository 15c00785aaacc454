//! `pretrain` and `repretrain`: trains a model on pairs (paper section 3.2), from its initial
//! values.
//!
//! Both are the same work. The bootstrap does it once on noisy pairs and once on what CapFilt makes
//! of them, from the start each time (paper table 13: continuing with the old model is worse).

use std::collections::BTreeMap;

use blip_data::vocab::Vocab;
use blip_engine::{Args, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::pretrain::{Batch, LossConfig, Losses, MomentumEncoder, Objectives, Tokens};
use blip_model::schedule::{self, StepPosition};
use blip_model::weights::Mismatch;
use blip_model::{ForwardMode, Med, Role};
use tch::Tensor;

use crate::libtorch;
use crate::model::{self, Header};
use crate::net::Net;
use crate::training::{Objective, Recipe, TrainingPairs, args, start_seed, train};
use crate::types::{MODEL, NET, PAIRS};

/// Longest text in tokens (salesforce/BLIP blip_pretrain.py).
const LENGTH: usize = 30;
/// Epochs over which the weight of the momentum encoders' targets grows to `alpha`.
const ALPHA_EPOCHS: u64 = 2;
/// Where the warm-up begins and below which the learning rate never falls.
const LEARNING_RATE_MIN: f64 = 1e-6;

/// The ops of this file.
pub(crate) fn ops() -> [Op; 2] {
    let pretrain = signature(
        "pretrain",
        "Trains a new model on pairs with the paper's objectives: image-text contrastive (ITC), \
         image-text matching (ITM) and language modelling (LM).",
    )
    .example("pretrain(net, pairs, epochs = 20, batch = 2400, lr = 3e-4, seed = 42)");
    let repretrain = signature(
        "repretrain",
        "Trains a new model on the bootstrapped pairs: the same as `pretrain`, from new initial \
         values (paper table 13).",
    )
    .example("repretrain(net, bootstrap, epochs = 20, batch = 2400, lr = 3e-4, seed = 42)");
    [pretrain, repretrain].map(|signature| Op::run(signature, 2, run).numeric())
}

fn signature(name: &'static str, doc: &'static str) -> Signature {
    let signature = Signature::stage(name, MODEL, doc)
        .arg(Arg::required("net", NET, "The shape of the model."))
        .arg(Arg::required(
            "pairs",
            PAIRS,
            "The pairs; every text of an image is a pair of its own.",
        ))
        .arg(args::epochs("20"))
        .arg(args::batch("2400"))
        .arg(args::learning_rate("3e-4"))
        .arg(Arg::with_default("warmup", Type::Int, "3000", "Warm-up steps.").within(0.0, 1e9))
        .arg(
            Arg::with_default(
                "decay",
                Type::Float,
                "0.9",
                "Factor of the learning rate after every epoch.",
            )
            .within(0.0, 1.0),
        )
        .arg(Arg::with_default(
            "objectives",
            Type::List(&Type::Choice(&["itc", "itm", "lm"])),
            "[\"itc\", \"itm\", \"lm\"]",
            "The objectives to train with.",
        ))
        .arg(args::queue("57600"))
        .arg(args::alpha());
    args::common(signature, "0.2")
}

/// The tokens that the losses put at the beginning of texts.
pub(crate) fn tokens(vocab: &Vocab) -> Tokens {
    let special = vocab.special();
    Tokens {
        enc: special.enc,
        dec: special.dec,
        pad: special.pad,
    }
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args().clone();
    let net = Net::from_input(ctx, "net")?;
    let vocab = net.vocab()?;
    let length = LENGTH.min(net.config.text.positions as usize);
    let recipe = Recipe {
        warm_start: true,
        ..Recipe::new(&args, length, "")?
    };
    let objectives = objectives(&args)?;
    let pairs = TrainingPairs::read(ctx, ctx.input("pairs")?, &vocab)?;
    let _device = libtorch::lock_device()?;
    let seed = start_seed(recipe.seed);
    let device = libtorch::best_device()?;
    let med = Med::fresh(&net.config, Role::Pretrained, seed, device).with_gradients();
    let settings = LossConfig {
        objectives,
        queue: args.int("queue")?,
        same_image_is_positive: false,
        smoothing: 0.1,
    };
    // The queue starts with random features.
    tch::manual_seed(seed.cast_signed());
    let peak = args.float("lr")?;
    let warmup = args.count("warmup")?;
    let decay = args.float("decay")?;
    let mut objective = MomentumObjective {
        momentum: MomentumEncoder::new(&med, settings, tokens(&vocab)),
        learning_rate: Box::new(move |at| {
            schedule::pretraining(at, peak, warmup, decay, LEARNING_RATE_MIN)
        }),
        alpha: args.float("alpha")?,
        alpha_epochs: ALPHA_EPOCHS,
    };
    let metrics = train(ctx, &recipe, &med, &pairs, &vocab, &mut objective)?;
    let header = Header::new(net.config, net.vocab, None);
    Ok(Output {
        metrics,
        ..Output::of(model::put(ctx, &header, &med)?)
    })
}

fn objectives(args: &Args) -> Result<Objectives, OpError> {
    let wanted = args.strings("objectives")?;
    if wanted.is_empty() {
        return Err(OpError::failed(
            "`objectives` is empty: there is nothing to train",
            "list at least one of \"itc\", \"itm\", \"lm\"",
        ));
    }
    let has = |name| wanted.contains(&name);
    Ok(Objectives {
        itc: has("itc"),
        itm: has("itm"),
        lm: has("lm"),
    })
}

/// ITC, ITM and LM with momentum encoders, as far as the settings ask for them.
pub(crate) struct MomentumObjective {
    pub(crate) momentum: MomentumEncoder,
    pub(crate) learning_rate: Box<dyn Fn(StepPosition) -> f64>,
    /// The weight of the momentum encoders' targets in ITC…
    pub(crate) alpha: f64,
    /// …which is reached after so many epochs.
    pub(crate) alpha_epochs: u64,
}

impl Objective for MomentumObjective {
    fn learning_rate(&self, at: StepPosition) -> f64 {
        (self.learning_rate)(at)
    }

    fn losses(
        &mut self,
        med: &Med,
        batch: &Batch,
        at: StepPosition,
        first: bool,
        pass: ForwardMode,
        rng: &mut dyn FnMut() -> f64,
    ) -> Losses {
        let alpha = schedule::alpha(at, self.alpha, self.alpha_epochs);
        self.momentum.losses(med, batch, alpha, first, pass, rng)
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.momentum.state()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        self.momentum.restore(state)
    }
}
