//! The language: source text in, checked program out. Pure: no files, no clock, no printing, and no
//! ops of its own.
//!
//! [`parse`] makes a tree, [`check`] a [`Program`] by the [`Signatures`] it is given, [`format`](format()) the standard
//! layout. Each returns what it could make together with everything that is wrong, as
//! [`Diagnostic`]s.

extern crate alloc; // what pest_derive writes without `std` names it

mod arguments;
pub mod ast;
mod check;
pub mod codes;
mod diagnostic;
mod format;
mod literal;
mod parser;
mod program;
mod signature;
mod source;
mod span;
mod statements;
mod tokens;
mod types;
mod units;

pub use self::arguments::Arguments;
pub use self::check::{Checked, ParamOverride, check, nearest};
pub use self::codes::Code;
pub use self::diagnostic::{Diagnostic, Severity};
pub use self::format::format;
pub use self::parser::{Parsed, parse, parse_duration, parse_size};
pub use self::program::{Attributes, Export, ParamInfo, Program, Stage, StageId, Value};
pub use self::signature::{
    Arg, Default, ExportFormat, Kind, Signature, SignatureError, Signatures,
};
pub use self::source::{Position, SOURCE_BYTES_MAX, Source};
pub use self::span::Span;
pub use self::types::Type;
pub use self::units::{duration_text, size_text};
