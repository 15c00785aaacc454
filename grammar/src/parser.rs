//! Text to tree: the only file that names pest.

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::Pair;

use crate::ast::{Argument, Attribute, Expr, ExprKind, File, Name, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::literal;
use crate::source::Source;
use crate::span::Span;
use crate::statements;

use self::rules::{Rule, Syntax};

mod rules {
    #[derive(Debug, pest_derive::Parser)]
    #[grammar = "../grammar.pest"]
    pub(super) struct Syntax;
}

/// A parsed file and everything that is wrong with its syntax.
#[derive(Clone, PartialEq, Debug)]
pub struct Parsed {
    /// What could be parsed.
    pub file: File,
    /// What could not.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a file. Never fails: what is wrong is in the diagnostics, and the rest in the tree.
pub fn parse(source: &Source) -> Parsed {
    let pieces = statements::cut(source);
    let mut diagnostics = pieces.diagnostics;
    let mut parsed = Vec::new();
    for span in pieces.statements {
        let mut builder = Builder { offset: span.start, diagnostics: &mut diagnostics };
        match Syntax::parse(Rule::statement_only, source.slice(span)) {
            Ok(mut pairs) => parsed.extend(pairs.next().map(|pair| builder.statement(pair))),
            Err(error) => builder.syntax(&error, span),
        }
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    let complete = diagnostics.is_empty();
    Parsed { file: File { statements: parsed, comments: pieces.comments, complete }, diagnostics }
}

/// Parses the value of a setting; a text that is no expression is `None`, a bare text.
pub(crate) fn parse_value(text: &str) -> Option<Expr> {
    // The cutter's checks hold for statements; a setting is short and its nesting is bounded here.
    if text.chars().filter(|c| "([".contains(*c)).count() > 64 {
        return None;
    }
    let pair = Syntax::parse(Rule::expr_only, text).ok()?.next()?;
    let mut diagnostics = Vec::new();
    let expr = Builder { offset: 0, diagnostics: &mut diagnostics }.expr(pair);
    diagnostics.is_empty().then_some(expr)
}

/// The bytes of a size as the language writes it, such as `16GiB`; `None` for every other text.
pub fn parse_size(text: &str) -> Option<u64> {
    match parse_value(text)?.kind {
        ExprKind::Size(bytes) => Some(bytes),
        _ => None,
    }
}

/// The milliseconds of a duration as the language writes it, such as `10min`; `None` for every other text.
pub fn parse_duration(text: &str) -> Option<u64> {
    match parse_value(text)?.kind {
        ExprKind::Duration(milliseconds) => Some(milliseconds),
        _ => None,
    }
}

struct Builder<'a> {
    offset: usize,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Builder<'_> {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        Span::new(self.offset + span.start(), self.offset + span.end())
    }

    fn name(&self, pair: &Pair<'_, Rule>) -> Name {
        Name { text: pair.as_str().to_owned(), span: self.span(pair) }
    }

    fn statement(&mut self, pair: Pair<'_, Rule>) -> Statement {
        let span = self.span(&pair);
        let mut attributes = Vec::new();
        let mut kind = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::attribute => attributes.push(self.attribute(part)),
                Rule::param => kind = Some(self.param(part)),
                Rule::export => kind = Some(self.export(part)),
                Rule::binding => kind = Some(self.binding(part)),
                _ => {}
            }
        }
        let kind = kind.expect("the rule `statement` holds one of the three kinds");
        Statement { attributes, kind, span }
    }

    fn attribute(&mut self, pair: Pair<'_, Rule>) -> Attribute {
        let span = self.span(&pair);
        let mut parts = pair.into_inner().filter(|part| part.as_rule() != Rule::comment);
        let name = parts.next().expect("the rule `attribute` begins with a name");
        Attribute { name: self.name(&name), argument: parts.next().map(|part| self.argument(part)), span }
    }

    fn argument(&mut self, pair: Pair<'_, Rule>) -> Argument {
        let span = self.span(&pair);
        let mut name = None;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.name(&part)),
                Rule::expr => value = Some(self.expr(part)),
                _ => {}
            }
        }
        Argument { name, value: value.expect("the rule `argument` ends with a value"), span }
    }

    fn param(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let (mut name, mut ty, mut default, mut range) = (None, None, None, None);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.name(&part)),
                Rule::type_name => ty = Some(self.name(&part)),
                Rule::expr => default = Some(self.expr(part)),
                Rule::range => {
                    let mut ends = part.into_inner().map(|end| self.expr(end));
                    range = ends.next().zip(ends.next());
                }
                _ => {}
            }
        }
        StatementKind::Param { name: name.expect("the rule `param` has a name"), ty, default, range }
    }

    fn export(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = pair.into_inner();
        let mut next = || parts.next().expect("the rule `export` has three parts");
        let (name, format, path) = (next(), next(), next());
        StatementKind::Export { name: self.name(&name), format: self.name(&format), path: self.string(&path) }
    }

    fn binding(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = pair.into_inner();
        let name = parts.next().expect("the rule `binding` begins with a name");
        let value = parts.next().expect("the rule `binding` ends with a value");
        StatementKind::Binding { name: self.name(&name), value: self.expr(value) }
    }

    fn expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let inner = pair.into_inner().next().expect("the rule `expr` holds one of its kinds");
        let span = self.span(&inner);
        let kind = match inner.as_rule() {
            Rule::string => return self.string(&inner),
            Rule::number => literal::number(inner.as_str()).unwrap_or_else(|problem| {
                self.diagnostics.push(problem.into_diagnostic(span));
                ExprKind::Int(0)
            }),
            Rule::list => {
                let values = inner.into_inner().filter(|part| part.as_rule() == Rule::expr);
                ExprKind::List(values.collect::<Vec<_>>().into_iter().map(|part| self.expr(part)).collect())
            }
            Rule::call => self.call(inner),
            _ => match inner.as_str() {
                "true" => ExprKind::Bool(true),
                "false" => ExprKind::Bool(false),
                name => ExprKind::Name(name.to_owned()),
            },
        };
        Expr { kind, span }
    }

    fn call(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut op = None;
        let mut args = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::path => op = Some(self.name(&part)),
                Rule::argument => args.push(self.argument(part)),
                _ => {}
            }
        }
        ExprKind::Call { op: op.expect("the rule `call` begins with an op"), args }
    }

    fn string(&mut self, pair: &Pair<'_, Rule>) -> Expr {
        let span = self.span(pair);
        let text = literal::string(pair.as_str()).unwrap_or_else(|(at, text)| {
            let at = Span::new(span.start + at, span.start + at + text.len());
            let diagnostic = Diagnostic::error(codes::BAD_ESCAPE, format!("`{text}` is no escape"))
                .at(at, "in this string")
                .help("the escapes are \\n \\r \\t \\\" \\\\ and \\u{1f600}; a backslash itself is \\\\");
            self.diagnostics.push(diagnostic);
            String::new()
        });
        Expr { kind: ExprKind::Str(text), span }
    }

    fn syntax(&mut self, error: &pest::error::Error<Rule>, piece: Span) {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => (piece.start + at).min(piece.end),
        };
        let expected = match &error.variant {
            ErrorVariant::ParsingError { positives, .. } => expected(positives),
            ErrorVariant::CustomError { message } => message.clone(),
        };
        let end = (at + 1).min(piece.end).max(at);
        let diagnostic = Diagnostic::error(codes::SYNTAX, "this is no statement of the language")
            .at(Span::new(at, end), expected)
            .help("a statement is `name = op(arguments)`, `param name = value` or `export name as format \"path\"`");
        self.diagnostics.push(diagnostic);
    }
}

/// "expected a value or `)`", from the rules that could have matched.
fn expected(rules: &[Rule]) -> String {
    let word = |rule: &Rule| match rule {
        Rule::ident => "a name",
        Rule::path | Rule::expr | Rule::number | Rule::string | Rule::list | Rule::call => "a value",
        Rule::argument => "an argument",
        Rule::attribute => "an attribute",
        Rule::range => "a range such as 0.0..1.0",
        Rule::type_name => "a type",
        Rule::EOI => "the end of the statement",
        Rule::statement | Rule::binding | Rule::param | Rule::export => "a statement",
        _ => "",
    };
    let mut words: Vec<&str> = rules.iter().map(word).filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words.dedup();
    if words.is_empty() { "this does not belong here".to_owned() } else { format!("expected {}", words.join(" or ")) }
}
