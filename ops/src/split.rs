//! `split`: a random part of a dataset, the same part whatever else is in it.

use blip_engine::{Digest, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};

use crate::pairs::{PairsWriter, samples};
use crate::types::PAIRS;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "split",
        PAIRS,
        "A random part of a dataset: every image has a place between 0 and 1 that depends on it and the seed alone, and those \
         between two places are taken. Parts that do not overlap share no image; a new image moves no other.",
    )
    .example("split(web_pairs, to = 0.9, seed = 1)")
    .arg(Arg::required("pairs", PAIRS, "The whole."))
    .arg(Arg::with_default("from", Type::Float, "0.0", "Images from this place on.").within(0.0, 1.0))
    .arg(Arg::with_default("to", Type::Float, "1.0", "Images before this place.").within(0.0, 1.0))
    .arg(Arg::required("seed", Type::Int, "What the places are drawn from."));
    Op::run(signature, 1, run)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args();
    let (from, to) = (args.float("from")?, args.float("to")?);
    if from >= to {
        let what = format!("nothing lies between from = {from:?} and to = {to:?}");
        return Err(OpError::failed(
            what,
            "a part begins before it ends: from = 0.0, to = 0.9",
        ));
    }
    let seed = args.int("seed")?;
    let whole = ctx.input("pairs")?;
    let mut part = PairsWriter::default();
    samples(ctx, whole, |image, sample| {
        let place = place(seed, &image);
        if place >= from && (place < to || to >= 1.0) {
            part.add_sample(image, sample);
        }
        Ok(())
    })?;
    if part.images() == 0 {
        let what = format!(
            "none of the {} images lies between from = {from:?} and to = {to:?}",
            whole.count.unwrap_or(0)
        );
        return Err(OpError::failed(
            what,
            "take a larger part, or give it more images",
        ));
    }
    part.finish(ctx)
}

/// An image's place, from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
fn place(seed: i64, image: &Digest) -> f64 {
    let digest = Digest::parts("blip/split/1", &[&seed.to_be_bytes(), image.as_bytes()]);
    let bits = digest
        .as_bytes()
        .iter()
        .take(8)
        .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
