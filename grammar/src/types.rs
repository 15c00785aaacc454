//! The types of arguments, params and results, and how they are written.

use std::fmt;

/// What an argument takes or an op makes.
///
/// There are two coercions: an `int` is accepted where a `float` is expected, a `string` where a
/// `path` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// 64 bits, signed.
    Int,
    /// 64 bits, finite.
    Float,
    Str,
    Bool,
    /// `10min`
    Duration,
    /// `16GiB`
    Size,
    /// A file, a folder or a glob pattern, relative to the workflow's folder.
    Path,
    /// One string of a fixed set: `"fp32"`.
    Choice(&'static [&'static str]),
    /// Any number of values of one type: `["itc", "itm"]`.
    List(&'static Type),
    /// A type that the ops define: `Pairs`, `Captioner`.
    Named(&'static str),
    /// A value of any of these types.
    OneOf(&'static [Type]),
}

/// The types a `param` can be declared with: the word in the source, its type, and the type of a
/// list of it.
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
