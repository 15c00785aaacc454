//! The syntax tree: what was written, with the place of everything. Data only; names are borrowed
//! from the source.

use std::fmt;

use crate::span::Span;

/// A parsed file. Statements that could not be parsed are missing; the diagnostics tell of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct File<'s> {
    /// The statements, in file order.
    pub statements: Vec<Statement<'s>>,
    /// The names that statements with a fault in their syntax seem to bind. Uses of them are no
    /// further fault.
    pub lost: Vec<Name<'s>>,
    /// The comments, in file order, from `#` to before the end of the line.
    pub comments: Vec<Span>,
    /// Whether every statement is there: only such a file can be formatted.
    pub complete: bool,
}

/// A statement with the attributes before it.
#[derive(Clone, PartialEq, Debug)]
pub struct Statement<'s> {
    /// `@gpu(1)`, in order.
    pub attributes: Vec<Attribute<'s>>,
    /// What it is.
    pub kind: StatementKind<'s>,
    /// All of it, attributes included.
    pub span: Span,
}

/// The three kinds of statement.
#[derive(Clone, PartialEq, Debug)]
pub enum StatementKind<'s> {
    /// `param name: type = default in low..high`
    Param {
        /// Its name.
        name: Name<'s>,
        /// The type, when it is declared.
        ty: Option<TypeName<'s>>,
        /// The default.
        default: Option<Expr<'s>>,
        /// The range; few params have one.
        range: Option<Box<(Expr<'s>, Expr<'s>)>>,
    },
    /// `name = value`
    Binding {
        /// Its name.
        name: Name<'s>,
        /// Its value.
        value: Expr<'s>,
    },
    /// `export name as format "path"`
    Export {
        /// What is exported.
        name: Name<'s>,
        /// How.
        format: Name<'s>,
        /// Where to: a string, or the name of one.
        path: Expr<'s>,
    },
}

/// An identifier or a dotted path, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name<'s> {
    /// Its text.
    pub text: &'s str,
    /// Where.
    pub span: Span,
}

/// `int` or `[int]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeName<'s> {
    /// The word, without brackets.
    pub word: &'s str,
    /// Whether it stands in brackets: a list.
    pub list: bool,
    /// All of it.
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
    /// Its name.
    pub name: Name<'s>,
    /// What stands in brackets.
    pub argument: Option<Argument<'s>>,
    /// All of it.
    pub span: Span,
}

/// A value with a name or without.
#[derive(Clone, PartialEq, Debug)]
pub struct Argument<'s> {
    /// `name =`
    pub name: Option<Name<'s>>,
    /// The value.
    pub value: Expr<'s>,
    /// All of it.
    pub span: Span,
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Expr<'s> {
    /// What it is.
    pub kind: ExprKind<'s>,
    /// Where.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind<'s> {
    /// What could not be read; a diagnostic tells of it.
    Fault,
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
        /// The op.
        op: Name<'s>,
        /// The arguments.
        args: Vec<Argument<'s>>,
    },
}
