//! `pretrain` and `repretrain`: a model learns from pairs (paper section 3.2), from its first
//! values on.
//!
//! Both are the same work; the bootstrap does it once on noisy pairs and once on what CapFilt makes
//! of them, from the start each time (paper table 13: going on with the old model is worse).

use std::collections::BTreeMap;

use blip_data::vocab::Vocab;
use blip_engine::{Args, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};
use blip_model::pretrain::{Batch, Losses, Objectives, Settings, Teacher, Tokens};
use blip_model::schedule::{self, At};
use blip_model::weights::Mismatch;
use blip_model::{Med, Pass, Role};
use tch::Tensor;

use crate::libtorch;
use crate::model::{self, Header};
use crate::net::Net;
use crate::training::{Learner, Pairs, Recipe, start_seed, train};
use crate::types::{MODEL, NET, PAIRS};

/// Longest text in tokens (salesforce/BLIP blip_pretrain.py).
const LENGTH: usize = 30;
/// Epochs over which the teacher's share in the targets grows.
const ALPHA_EPOCHS: u64 = 2;
/// Where the warm-up begins and below which the rate never falls.
const LOWEST_RATE: f64 = 1e-6;

/// The ops of this file.
pub(crate) fn ops() -> [Op; 2] {
    let pretrain = signature(
        "pretrain",
        "Trains a new model on pairs with the objectives of the paper: contrast (ITC), matching (ITM), language modelling (LM).",
    )
    .example("pretrain(net, pairs, epochs = 20, batch = 2400, lr = 3e-4, seed = 42)");
    let repretrain = signature(
        "repretrain",
        "Trains a new model on the bootstrapped pairs. The same work as `pretrain`, from the start again (paper table 13).",
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
        .arg(
            Arg::with_default("epochs", Type::Int, "20", "Times that every pair is seen.")
                .within(1.0, 1e6),
        )
        .arg(batch("2400"))
        .arg(rate("3e-4"))
        .arg(
            Arg::with_default(
                "warmup",
                Type::Int,
                "3000",
                "Steps over which the learning rate grows.",
            )
            .within(0.0, 1e9),
        )
        .arg(
            Arg::with_default(
                "decay",
                Type::Float,
                "0.9",
                "The learning rate is multiplied by this after every epoch.",
            )
            .within(0.0, 1.0),
        )
        .arg(Arg::with_default(
            "objectives",
            Type::List(&Type::Choice(&["itc", "itm", "lm"])),
            "[\"itc\", \"itm\", \"lm\"]",
            "What is learnt.",
        ))
        .arg(queue("57600"))
        .arg(alpha());
    common(signature, "0.2")
}

/// Arguments that several training ops declare alike.
pub(crate) fn batch(default: &'static str) -> Arg {
    Arg::with_default(
        "batch",
        Type::Int,
        default,
        "Pairs of a step; with fewer pairs in all, all of them.",
    )
    .within(1.0, 1e6)
}

pub(crate) fn rate(default: &'static str) -> Arg {
    Arg::with_default("lr", Type::Float, default, "The highest learning rate.").within(0.0, 10.0)
}

pub(crate) fn queue(default: &'static str) -> Arg {
    Arg::with_default(
        "queue",
        Type::Int,
        default,
        "Features of earlier pairs that ITC compares with.",
    )
    .within(0.0, 1e7)
}

pub(crate) fn alpha() -> Arg {
    Arg::with_default(
        "alpha",
        Type::Float,
        "0.4",
        "Share of the momentum encoders' opinion in the targets of ITC.",
    )
    .within(0.0, 1.0)
}

/// What every training op declares at its end.
pub(crate) fn common(signature: Signature, crop: &'static str) -> Signature {
    signature
        .arg(
            Arg::with_default(
                "crop",
                Type::Float,
                crop,
                "The smallest share of a picture's area that is cut out; 1 cuts nothing.",
            )
            .within(0.01, 1.0),
        )
        .arg(Arg::with_default("flip", Type::Bool, "true", "Whether half of the pictures are mirrored."))
        .arg(Arg::with_default(
            "randaugment",
            Type::Bool,
            "true",
            "Whether two random operations follow: contrast, equalisation, shearing, shifting, turning.",
        ))
        .arg(Arg::with_default("weight_decay", Type::Float, "0.05", "Weight decay of AdamW.").within(0.0, 1.0))
        .arg(
            Arg::with_default(
                "accumulate",
                Type::Int,
                "1",
                "Parts in which a step's pairs go through the model, when they do not fit into memory together.",
            )
            .within(1.0, 1e6),
        )
        .arg(Arg::with_default(
            "precision",
            Type::Choice(&["fp32", "bf16"]),
            "\"fp32\"",
            "In what matrices are multiplied while training; weights and sums stay in fp32.",
        ))
        .arg(Arg::required("seed", Type::Int, "What everything random is made of.").within(0.0, 9e15))
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
    let net = Net::input(ctx, "net")?;
    let vocab = net.vocab()?;
    let recipe = Recipe {
        grows: true,
        ..Recipe::of(&args, LENGTH.min(net.config.text.positions as usize), "")?
    };
    let objectives = objectives(&args)?;
    let pairs = Pairs::read(ctx, ctx.input("pairs")?, &vocab)?;
    let _turn = libtorch::turn()?;
    let med = Med::fresh(
        &net.config,
        Role::Pretrained,
        start_seed(recipe.seed),
        libtorch::best_device()?,
    )
    .with_gradients();
    let settings = Settings {
        objectives,
        queue: args.int("queue")?,
        aware: false,
        smoothing: 0.1,
    };
    tch::manual_seed(start_seed(recipe.seed).cast_signed());
    let (peak, warmup, decay) = (
        args.float("lr")?,
        args.count("warmup")?,
        args.float("decay")?,
    );
    let mut learner = Contrastive {
        teacher: Teacher::new(&med, settings, tokens(&vocab)),
        rate: Box::new(move |at| schedule::pretraining(at, peak, warmup, decay, LOWEST_RATE)),
        alpha: (args.float("alpha")?, ALPHA_EPOCHS),
    };
    let metrics = train(ctx, &recipe, &med, &pairs, &vocab, &mut learner)?;
    let header = Header::new(net.config, net.vocab, None);
    Ok(Output {
        metrics,
        ..Output::of(model::put(ctx, &header, &med)?)
    })
}

fn objectives(args: &Args) -> Result<Objectives, OpError> {
    let wanted = args.texts("objectives")?;
    if wanted.is_empty() {
        return Err(OpError::failed(
            "`objectives` is empty: nothing would be learnt",
            "name some of \"itc\", \"itm\", \"lm\"",
        ));
    }
    let has = |name| wanted.contains(&name);
    Ok(Objectives {
        itc: has("itc"),
        itm: has("itm"),
        lm: has("lm"),
    })
}

/// A learner of contrast, matching or language modelling with a teacher.
pub(crate) struct Contrastive {
    pub(crate) teacher: Teacher,
    /// The learning rate of a step.
    pub(crate) rate: Box<dyn Fn(At) -> f64>,
    /// The teacher's share in the targets of ITC, reached after so many epochs.
    pub(crate) alpha: (f64, u64),
}

impl Learner for Contrastive {
    fn rate(&self, at: At) -> f64 {
        (self.rate)(at)
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
        let (full, epochs) = self.alpha;
        self.teacher.losses(
            med,
            batch,
            schedule::alpha(at, full, epochs),
            first,
            pass,
            unit,
        )
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.teacher.state()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        self.teacher.restore(state)
    }
}
