//! The syntax tree: what was written, with the span of everything. Data only; names are borrowed
//! from the source.

use std::fmt;

use crate::span::Span;

/// A parsed file. Statements that could not be parsed are missing; each has a diagnostic.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct File<'s> {
    /// In file order.
    pub statements: Vec<Statement<'s>>,
    /// The names that statements with a syntax error seem to bind. Using one of them is no further
    /// error.
    pub unparsed: Vec<Name<'s>>,
    /// In file order, each from its `#` to the last character that is no blank.
    pub comments: Vec<Span>,
    /// Whether every statement was parsed: only such a file can be formatted.
    pub complete: bool,
}

/// A statement with the attributes before it.
#[derive(Clone, PartialEq, Debug)]
pub struct Statement<'s> {
    pub attributes: Vec<Attribute<'s>>,
    pub kind: StatementKind<'s>,
    /// All of it, attributes included.
    pub span: Span,
}

#[derive(Clone, PartialEq, Debug)]
pub enum StatementKind<'s> {
    /// `param name: type = default in low..high`
    Param {
        name: Name<'s>,
        ty: Option<TypeName<'s>>,
        default: Option<Expr<'s>>,
        /// Boxed: few params have one, and statements are many.
        range: Option<Box<(Expr<'s>, Expr<'s>)>>,
    },
    /// `name = value`
    Binding { name: Name<'s>, value: Expr<'s> },
    /// `export name as format "path"`
    Export {
        name: Name<'s>,
        format: Name<'s>,
        /// A string, or the name of one.
        path: Expr<'s>,
    },
}

/// An identifier or a dotted path, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name<'s> {
    pub text: &'s str,
    pub span: Span,
}

/// `int` or `[int]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeName<'s> {
    /// Without brackets.
    pub word: &'s str,
    /// Whether it stands in brackets: a list.
    pub list: bool,
    pub span: Span,
}

impl fmt::Display for TypeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { word, list, .. } = self;
        if *list {
            write!(f, "[{word}]")
        } else {
            f.write_str(word)
        }
    }
}

/// `@name` or `@name(value)` or `@name(key = value)`
#[derive(Clone, PartialEq, Debug)]
pub struct Attribute<'s> {
    pub name: Name<'s>,
    pub argument: Option<Argument<'s>>,
    pub span: Span,
}

/// `value` or `name = value`
#[derive(Clone, PartialEq, Debug)]
pub struct Argument<'s> {
    pub name: Option<Name<'s>>,
    pub value: Expr<'s>,
    pub span: Span,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Expr<'s> {
    pub kind: ExprKind<'s>,
    pub span: Span,
}

#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind<'s> {
    /// A literal with an error in it, which has a diagnostic.
    Error,
    /// `42`
    Int(i64),
    /// `3e-4`
    Float(f64),
    /// `"text"`, escapes resolved.
    Str(String),
    /// `true`
    Bool(bool),
    /// `10min`, in milliseconds.
    Duration(u64),
    /// `16GiB`, in bytes.
    Size(u64),
    /// `seed`
    Name(&'s str),
    /// `[1, 2]`
    List(Vec<Expr<'s>>),
    /// `op(arguments)`
    Call {
        op: Name<'s>,
        args: Vec<Argument<'s>>,
    },
}
