//! The ops and export formats of the language, in one list.

mod caption;
mod evaluate;
mod export;
mod filter;
mod finetune_captioner;
mod finetune_filter;
mod image_loader;
mod image_store;
mod inference;
pub mod inspect;
mod learn;
mod libtorch;
pub mod lineage;
mod load;
mod merge;
mod model;
mod net;
mod ordered_pool;
mod pairs;
mod pretrain;
mod read;
pub mod report;
mod row;
mod split;
mod training;
mod types;

use blip_engine::{NumericEnv, Op, OpSet};
pub use blip_model::device::{DeviceChoice, SettingError};

/// All ops and export formats.
pub fn all() -> OpSet {
    let ops = [
        read::ops().into(),
        vec![learn::wordpiece::op(), merge::op(), split::op()],
        net::ops(),
        load::ops().into(),
        pretrain::ops().into(),
        vec![finetune_captioner::op(), finetune_filter::op()],
        caption::ops(),
        filter::ops().into(),
        vec![evaluate::op()],
    ];
    let set = ops
        .into_iter()
        .flatten()
        .fold(OpSet::new(), |set, op: Op| set.with(op))
        .with_result_type("Metrics");
    export::formats().into_iter().fold(set, OpSet::with_export)
}

/// The properties of this machine that the bits of numeric results depend on. They are part of the
/// keys of numeric ops.
///
/// # Errors
/// A variable of the environment, such as `BLIP_DEVICE`, has an invalid value.
pub fn numeric_env() -> Result<NumericEnv, SettingError> {
    let fields = blip_model::device::environment()?;
    Ok(NumericEnv { fields })
}
