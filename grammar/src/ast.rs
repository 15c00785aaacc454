//! The syntax tree: what was written, with the place of everything. Data only.

use crate::span::Span;

/// A parsed file. Statements that could not be parsed are missing; the diagnostics tell of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct File {
    /// The statements, in file order.
    pub statements: Vec<Statement>,
    /// The names that statements with a fault in their syntax seem to bind. Uses of them are no further fault.
    pub lost: Vec<Name>,
    /// The comments, in file order, from `#` to before the end of the line.
    pub comments: Vec<Span>,
    /// Whether every statement is there: only such a file can be formatted.
    pub complete: bool,
}

/// A statement with the attributes before it.
#[derive(Clone, PartialEq, Debug)]
pub struct Statement {
    /// `@gpu(1)`, in order.
    pub attributes: Vec<Attribute>,
    /// What it is.
    pub kind: StatementKind,
    /// All of it, attributes included.
    pub span: Span,
}

/// The three kinds of statement.
#[derive(Clone, PartialEq, Debug)]
pub enum StatementKind {
    /// `param name: type = default in low..high`
    Param {
        /// Its name.
        name: Name,
        /// The type, when it is declared.
        ty: Option<Name>,
        /// The default.
        default: Option<Expr>,
        /// The range; few params have one.
        range: Option<Box<(Expr, Expr)>>,
    },
    /// `name = value`
    Binding {
        /// Its name.
        name: Name,
        /// Its value.
        value: Expr,
    },
    /// `export name as format "path"`
    Export {
        /// What is exported.
        name: Name,
        /// How.
        format: Name,
        /// Where to: a string, or the name of one.
        path: Expr,
    },
}

/// An identifier, a dotted path, or a type, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// Its text.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// `@name` or `@name(value)` or `@name(key = value)`
#[derive(Clone, PartialEq, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: Name,
    /// What stands in brackets.
    pub argument: Option<Argument>,
    /// All of it.
    pub span: Span,
}

/// A value with a name or without.
#[derive(Clone, PartialEq, Debug)]
pub struct Argument {
    /// `name =`
    pub name: Option<Name>,
    /// The value.
    pub value: Expr,
    /// All of it.
    pub span: Span,
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Clone, PartialEq, Debug)]
pub enum ExprKind {
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
    Name(String),
    /// `[1, 2]`
    List(Vec<Expr>),
    /// `op(arguments)`
    Call {
        /// The op.
        op: Name,
        /// The arguments.
        args: Vec<Argument>,
    },
}
