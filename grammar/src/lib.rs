//! The language: source text in, checked program out. Pure: no files, no clock, no printing, and no
//! ops of its own.
//!
//! [`parse`] turns text into a tree, [`check`] turns the tree into a [`Program`] by the
//! declarations in [`Signatures`], [`format`](format()) prints the tree in standard layout. None of
//! them fails: errors are [`Diagnostic`]s beside a partial result, so that all of them are reported
//! at once.
//!
//! ```
//! use blip_grammar::{Arg, Signature, Signatures, Source, Type, check, parse};
//!
//! let pairs = Type::Named("Pairs");
//! let file = Arg::required("file", Type::Path, "The list of captions.");
//! let inputs = Arg::required("pairs", pairs, "The pairs to merge.").variadic();
//! let ops = vec![
//!     Signature::stage("read", pairs, "Reads pairs.").arg(file),
//!     Signature::stage("merge", pairs, "Merges pairs.").arg(inputs),
//! ];
//! let signatures = Signatures::new(ops, vec![], vec!["Pairs"])?;
//!
//! let source = Source::new("demo.blip", "all = merge(read(\"a.json\"), read(\"b.json\"))")?;
//! let parsed = parse(&source);
//! let checked = check(&parsed.file, &source, &signatures, &[]);
//! let program = checked.program.expect("the workflow has no errors");
//! let names: Vec<&str> = program.stages.iter().map(|stage| &*stage.name).collect();
//! assert_eq!(names, ["all/read", "all/read.2", "all"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
    Arg, ArgDefault, ExportFormat, OpKind, Signature, SignatureError, Signatures,
};
pub use self::source::{Position, SOURCE_BYTES_MAX, Source};
pub use self::span::Span;
pub use self::types::Type;
pub use self::units::{duration_text, size_text};
