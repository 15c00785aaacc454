//! Ops that learn from texts alone.

pub(crate) mod wordpiece;
