//! Ops that learn something from texts alone.

pub(crate) mod wordpiece;
