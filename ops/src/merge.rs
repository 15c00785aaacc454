//! `merge`: several datasets as one, united by image.

use blip_engine::{Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature};

use crate::pairs::{PairsWriter, samples};
use crate::types::PAIRS;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "merge",
        PAIRS,
        "Several datasets as one, united by image. Texts of one image that are equal once they are cleaned as for the model \
         are one text: the one with the better provenance stays, human before web before synthetic, judged before not.",
    )
    .example("merge(kept, human_pairs)")
    .arg(Arg::required("pairs", PAIRS, "The datasets, in any order.").variadic());
    Op::run(signature, 1, run)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let mut merged = PairsWriter::default();
    for pairs in ctx.inputs("pairs")? {
        ctx.check_interrupted()?;
        samples(ctx, pairs, |image, sample| {
            merged.add_sample(image, sample);
            Ok(())
        })?;
    }
    let dropped = merged.drop_repeated();
    let output = merged.finish(ctx)?;
    let notes = if dropped > 0 {
        vec![format!("{dropped} repeated texts dropped")]
    } else {
        Vec::new()
    };
    Ok(Output { notes, ..output })
}
