//! What the stages of a workflow do: every op and every export format there is, in one list.

#[expect(dead_code, reason = "the ops that read pictures are still to come")]
mod images;
#[cfg_attr(not(test), expect(dead_code, reason = "the ops that read pictures are still to come"))]
mod loader;
#[expect(dead_code, reason = "the ops that make these are still to come")]
mod types;

use blip_engine::{NumericEnv, OpSet};

/// All ops and export formats. A test walks the list.
pub fn all() -> OpSet {
    OpSet::new().with_result_type("Metrics")
}

/// What of this machine the bits of numeric results depend on.
pub fn numeric_env() -> NumericEnv {
    NumericEnv { fields: Vec::new() }
}
