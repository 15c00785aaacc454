//! `merge`: several datasets as one, merged by image.

use blip_engine::{Op, OpError, Output, StageCtx};
use blip_grammar::{Arg, Signature};

use crate::pairs::{PairsWriter, for_each_sample};
use crate::types::PAIRS;

pub(crate) fn op() -> Op {
    let signature = Signature::stage(
        "merge",
        PAIRS,
        "Several datasets as one, merged by image. Texts of one image that are equal after \
         cleaning are duplicates: the one with the best provenance is kept, human before web \
         before synthetic, scored before unscored.",
    )
    .example("merge(kept, human_pairs)")
    .arg(Arg::required("pairs", PAIRS, "The datasets, in any order.").variadic());
    Op::run(signature, 1, run)
}

fn run(ctx: &mut StageCtx) -> Result<Output, OpError> {
    let mut merged = PairsWriter::default();
    for pairs in ctx.inputs("pairs")? {
        ctx.check_interrupted()?;
        for_each_sample(ctx, pairs, |image, sample| {
            merged.add_sample(image, sample);
            Ok(())
        })?;
    }
    let dropped = merged.drop_duplicates();
    let output = merged.finish(ctx)?;
    let mut notes = Vec::new();
    if dropped > 0 {
        notes.push(format!("{dropped} duplicate texts dropped"));
    }
    Ok(Output { notes, ..output })
}
