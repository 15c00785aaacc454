//! Arguments that several training ops declare.

use blip_grammar::{Arg, Signature, Type};

pub(crate) fn epochs(default: &'static str) -> Arg {
    Arg::with_default("epochs", Type::Int, default, "Passes over the pairs.").within(1.0, 1e6)
}

pub(crate) fn batch(default: &'static str) -> Arg {
    Arg::with_default(
        "batch",
        Type::Int,
        default,
        "Pairs per step; all pairs when there are fewer.",
    )
    .within(1.0, 1e6)
}

pub(crate) fn learning_rate(default: &'static str) -> Arg {
    Arg::with_default("lr", Type::Float, default, "Peak learning rate.").within(0.0, 10.0)
}

pub(crate) fn queue(default: &'static str) -> Arg {
    Arg::with_default(
        "queue",
        Type::Int,
        default,
        "Size of the ITC queue: features of earlier pairs used as negatives.",
    )
    .within(0.0, 1e7)
}

pub(crate) fn alpha() -> Arg {
    Arg::with_default(
        "alpha",
        Type::Float,
        "0.4",
        "Weight of the momentum encoders' soft targets in ITC.",
    )
    .within(0.0, 1.0)
}

/// Image side of a finetuned model.
pub(crate) fn image() -> Arg {
    Arg::optional(
        "image",
        Type::Int,
        "Image side in pixels, when it differs from pretraining: the paper uses 384 after 224.",
    )
    .within(4.0, 4096.0)
}

/// Appends the arguments that every training op ends with.
pub(crate) fn common(signature: Signature, crop: &'static str) -> Signature {
    signature
        .arg(
            Arg::with_default(
                "crop",
                Type::Float,
                crop,
                "Minimum fraction of an image's area that a random crop takes; 1 for no crop.",
            )
            .within(0.01, 1.0),
        )
        .arg(Arg::with_default(
            "flip",
            Type::Bool,
            "true",
            "Whether images are flipped horizontally with probability 0.5.",
        ))
        .arg(Arg::with_default(
            "randaugment",
            Type::Bool,
            "true",
            "Whether two random RandAugment operations follow: contrast, equalize, shear, \
             translate, rotate and others.",
        ))
        .arg(
            Arg::with_default(
                "weight_decay",
                Type::Float,
                "0.05",
                "Weight decay of AdamW.",
            )
            .within(0.0, 1.0),
        )
        .arg(
            Arg::with_default(
                "accumulate",
                Type::Int,
                "1",
                "Micro-batches per step (gradient accumulation), when a batch does not fit into \
                 memory.",
            )
            .within(1.0, 1e6),
        )
        .arg(Arg::with_default(
            "precision",
            Type::Choice(&["fp32", "bf16"]),
            "\"fp32\"",
            "Precision of matrix products in training; weights and sums stay in fp32.",
        ))
        .arg(
            Arg::required(
                "seed",
                Type::Int,
                "Seed of everything random: initial values, order, augmentation, dropout.",
            )
            .within(0.0, 9e15),
        )
}
