//! One file a command.

pub(crate) mod check;
pub(crate) mod fmt;
pub(crate) mod graph;
pub(crate) mod help;
pub(crate) mod ops;
pub(crate) mod plan;
pub(crate) mod run;
