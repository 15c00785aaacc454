//! What the stages of a workflow do: every op and every export format there is, in one list.

mod caption;
mod evaluate;
mod filter;
mod finetune_captioner;
mod finetune_filter;
#[expect(dead_code, reason = "the ops that read pictures are still to come")]
mod images;
mod inference;
mod loader;
mod model;
mod net;
mod pretrain;
pub mod report;
mod training;
mod types;

use blip_engine::{NumericEnv, Op, OpSet};

/// All ops and export formats. A test walks the list.
pub fn all() -> OpSet {
    let ops = [
        net::ops(),
        pretrain::ops().into(),
        vec![finetune_captioner::op(), finetune_filter::op()],
        caption::ops(),
        filter::ops().into(),
        vec![evaluate::op()],
    ];
    ops.into_iter().flatten().fold(OpSet::new(), |set, op: Op| set.with(op)).with_result_type("Metrics")
}

/// What of this machine the bits of numeric results depend on.
pub fn numeric_env() -> NumericEnv {
    NumericEnv { fields: blip_model::device::environment() }
}
