//! The types of arguments, params and results, how they are written, and what fits where.

use std::fmt;

/// What an argument takes or an op makes.
///
/// Two coercions exist and no others: an `int` fits where a `float` is due, a `string` where a
/// `path` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// A whole number, 64 bits with sign.
    Int,
    /// A number, 64 bits.
    Float,
    /// A text.
    Str,
    /// `true` or `false`.
    Bool,
    /// A span of time: `10min`.
    Duration,
    /// An amount of memory: `16GiB`.
    Size,
    /// A file, a folder or a pattern of files, relative to the workflow's folder.
    Path,
    /// A text out of a fixed set: `"fp32"`. Its values are strings.
    Choice(&'static [&'static str]),
    /// Any number of values of one type: `["itc", "itm"]`.
    List(&'static Type),
    /// A type that the ops bring along: `Pairs`, `Captioner`.
    Named(&'static str),
    /// A value of any of these types.
    OneOf(&'static [Type]),
}

/// The types a `param` can be declared with, by the word that stands in the source.
pub(crate) const DECLARABLE: [(&str, Type, Type); 7] = [
    ("int", Type::Int, Type::List(&Type::Int)),
    ("float", Type::Float, Type::List(&Type::Float)),
    ("string", Type::Str, Type::List(&Type::Str)),
    ("bool", Type::Bool, Type::List(&Type::Bool)),
    ("duration", Type::Duration, Type::List(&Type::Duration)),
    ("size", Type::Size, Type::List(&Type::Size)),
    ("path", Type::Path, Type::List(&Type::Path)),
];

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Int => f.write_str("int"),
            Type::Float => f.write_str("float"),
            Type::Str => f.write_str("string"),
            Type::Bool => f.write_str("bool"),
            Type::Duration => f.write_str("duration"),
            Type::Size => f.write_str("size"),
            Type::Path => f.write_str("path"),
            Type::Choice(words) => join(f, words.iter().map(|word| format!("\"{word}\""))),
            Type::List(element) => write!(f, "[{element}]"),
            Type::Named(name) => f.write_str(name),
            Type::OneOf(types) => join(f, types.iter().map(Type::to_string)),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, words: impl Iterator<Item = String>) -> fmt::Result {
    f.write_str(&words.collect::<Vec<_>>().join(" | "))
}
