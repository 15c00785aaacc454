//! `split`: a random part of a dataset, the same part whatever else the dataset holds.

use blip_engine::{Digest, Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature, Type};

use crate::pairs::{PairsWriter, for_each_sample};
use crate::types::PAIRS;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "split",
        PAIRS,
        "A random part of a dataset. Every image has a position in [0, 1) that depends only on the \
         image and the seed; the part holds the images with positions in [from, to). Disjoint \
         ranges share no image, and adding an image moves no other.",
    )
    .example("split(web_pairs, to = 0.9, seed = 1)")
    .arg(Arg::required("pairs", PAIRS, "The dataset."))
    .arg(
        Arg::with_default("from", Type::Float, "0.0", "Start of the range, inclusive.")
            .within(0.0, 1.0),
    )
    .arg(
        Arg::with_default("to", Type::Float, "1.0", "End of the range, exclusive.")
            .within(0.0, 1.0),
    )
    .arg(Arg::required("seed", Type::Int, "Seed of the positions."));
    Op::run(signature, 1, run)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let args = ctx.args();
    let (from, to) = (args.float("from")?, args.float("to")?);
    if from >= to {
        let what = format!("the range from = {from:?}, to = {to:?} is empty");
        return Err(OpError::failed(
            what,
            "`from` must be less than `to`, as in from = 0.0, to = 0.9",
        ));
    }
    let seed = args.int("seed")?;
    let pairs = ctx.input("pairs")?;
    let mut part = PairsWriter::default();
    for_each_sample(ctx, pairs, |image, sample| {
        let position = position(seed, &image);
        if position >= from && (position < to || to >= 1.0) {
            part.add_sample(image, sample);
        }
        Ok(())
    })?;
    if part.images() == 0 {
        let what = format!(
            "none of the {} images is in the range from = {from:?}, to = {to:?}",
            pairs.count.unwrap_or(0)
        );
        return Err(OpError::failed(
            what,
            "widen the range, or split a dataset with more images",
        ));
    }
    part.finish(ctx)
}

/// An image's position in [0, 1): the first 53 bits of a digest, as many as a double holds exactly.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
fn position(seed: i64, image: &Digest) -> f64 {
    let digest = Digest::parts("blip/split/1", &[&seed.to_be_bytes(), image.as_bytes()]);
    let bits = digest
        .as_bytes()
        .iter()
        .take(8)
        .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
