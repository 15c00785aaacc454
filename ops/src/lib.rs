//! What the stages of a workflow do: every op and every export format there is, in one list.

use blip_engine::{NumericEnv, OpSet};

/// All ops and export formats. A test walks the list.
pub fn all() -> OpSet {
    OpSet::new()
}

/// What of this machine the bits of numeric results depend on.
pub fn numeric_env() -> NumericEnv {
    NumericEnv { fields: Vec::new() }
}
