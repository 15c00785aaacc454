//! Text to tree: the only file that names pest.

mod fault;

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::Pair;

use crate::ast::{
    Argument, Attribute, Expr, ExprKind, File, Name, Statement, StatementKind, TypeName,
};
use crate::codes;
use crate::diagnostic::{Diagnostic, shorten};
use crate::literal;
use crate::source::Source;
use crate::span::Span;
use crate::statements::{self, Piece};

use self::fault::Fault;
use self::rules::{Rule, Syntax};

mod rules {
    #[derive(Debug, pest_derive::Parser)]
    #[grammar = "../grammar.pest"]
    pub(super) struct Syntax;
}

/// Words with a meaning of their own: no binding or param can have them as its name.
pub(crate) const RESERVED: [&str; 4] = ["param", "export", "true", "false"];

/// A parsed file and everything that is wrong with its syntax.
#[derive(Clone, PartialEq, Debug)]
pub struct Parsed<'s> {
    /// What could be parsed.
    pub file: File<'s>,
    /// What could not.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a file. Never fails: what is wrong is in the diagnostics, and the rest in the tree.
pub fn parse(source: &Source) -> Parsed<'_> {
    let pieces = statements::cut(source);
    let parts = parse_pieces(source, &pieces.statements);
    let mut file = File {
        statements: parts.statements,
        comments: pieces.comments,
        ..File::default()
    };
    let mut diagnostics = pieces.diagnostics;
    diagnostics.extend(parts.diagnostics);
    let mut faults = parts.faults.into_iter().peekable();
    // Whether the piece before ended too early: what follows it may be its rest.
    let mut cut_short = false;
    for piece in pieces.statements {
        let was_cut_short = std::mem::take(&mut cut_short);
        match faults.next_if(|(at, _)| *at == piece.span) {
            Some(_) if was_cut_short && piece.name.is_none() && piece.indented => {}
            Some((_, error)) => {
                let mut builder = Builder {
                    offset: piece.span.start(),
                    diagnostics: &mut diagnostics,
                };
                cut_short = builder.syntax(&error, source.slice(piece.span), &piece);
            }
            None if piece.broken => {}
            None => continue,
        }
        file.lost.extend(piece.name.map(|span| Name {
            text: source.slice(span),
            span,
        }));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    file.complete = diagnostics.is_empty();
    shorten(&mut diagnostics, 0);
    Parsed { file, diagnostics }
}

/// What came of pieces.
#[derive(Default)]
struct Parts<'s> {
    /// Those that are statements.
    statements: Vec<Statement<'s>>,
    /// What is wrong inside of statements.
    diagnostics: Vec<Diagnostic>,
    /// Those that are none, in order.
    faults: Vec<(Span, Box<pest::error::Error<Rule>>)>,
}

/// Parses the pieces that are not broken. Where one ends and the next begins is known: each can be
/// parsed by itself.
fn parse_pieces<'s>(source: &'s Source, pieces: &[Piece]) -> Parts<'s> {
    let mut parts = Parts {
        statements: Vec::with_capacity(pieces.len()),
        ..Parts::default()
    };
    for together in pieces.chunks(TOGETHER) {
        if !parts.add_together(source, together) {
            together
                .iter()
                .filter(|piece| !piece.broken)
                .for_each(|piece| parts.add(source, piece));
        }
    }
    parts
}

/// As many pieces are given to pest at once: starting it costs as much as a statement.
const TOGETHER: usize = 64;

impl<'s> Parts<'s> {
    /// Parses pieces as one text, which is right if it gives just these; false if it does not, and
    /// nothing is added.
    fn add_together(&mut self, source: &'s Source, pieces: &[Piece]) -> bool {
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
            return true;
        };
        if pieces.iter().any(|piece| piece.broken) {
            return false;
        }
        let whole = first.span.to(last.span);
        let Ok(pairs) = Syntax::parse(Rule::statements, source.slice(whole)) else {
            return false;
        };
        let mut builder = Builder {
            offset: whole.start(),
            diagnostics: &mut self.diagnostics,
        };
        let pairs = pairs.filter(|pair| pair.as_rule() == Rule::statement);
        if !pairs
            .clone()
            .map(|pair| builder.span(&pair))
            .eq(pieces.iter().map(|piece| piece.span))
        {
            return false;
        }
        self.statements
            .extend(pairs.map(|pair| builder.statement(pair)));
        true
    }

    fn add(&mut self, source: &'s Source, piece: &Piece) {
        let mut builder = Builder {
            offset: piece.span.start(),
            diagnostics: &mut self.diagnostics,
        };
        match Syntax::parse(Rule::statement_only, source.slice(piece.span)) {
            Ok(mut pairs) => self
                .statements
                .extend(pairs.next().map(|pair| builder.statement(pair))),
            Err(error) => self.faults.push((piece.span, Box::new(error))),
        }
    }
}

/// Parses a value that stands by itself, as that of a setting. A text that is no expression is
/// `None`.
pub(crate) fn parse_value(text: &str) -> Option<Expr<'_>> {
    let source = Source::new("", text).ok()?;
    // It may have lost its beginning there: a byte order mark.
    let text = text.get(text.len() - source.text().len()..)?;
    let pieces = statements::cut(&source);
    // More than one piece, a comment or a fault: no value of the language.
    let [
        Piece {
            broken: false,
            span,
            ..
        },
    ] = pieces.statements.as_slice()
    else {
        return None;
    };
    if !pieces.comments.is_empty() || !pieces.diagnostics.is_empty() {
        return None;
    }
    let pair = Syntax::parse(Rule::expr_only, text.get(span.start()..span.end())?)
        .ok()?
        .next()?;
    let mut diagnostics = Vec::new();
    let expr = Builder {
        offset: span.start(),
        diagnostics: &mut diagnostics,
    }
    .expr(pair);
    diagnostics.is_empty().then_some(expr)
}

/// The bytes of a size as the language writes it, such as `16GiB`; `None` for every other text.
pub fn parse_size(text: &str) -> Option<u64> {
    match parse_value(text)?.kind {
        ExprKind::Size(bytes) => Some(bytes),
        _ => None,
    }
}

/// The milliseconds of a duration as the language writes it, such as `10min`; `None` for every
/// other text.
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

    fn name<'s>(&self, pair: &Pair<'s, Rule>) -> Name<'s> {
        Name {
            text: pair.as_str(),
            span: self.span(pair),
        }
    }

    fn statement<'s>(&mut self, pair: Pair<'s, Rule>) -> Statement<'s> {
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
        Statement {
            attributes,
            kind,
            span,
        }
    }

    fn attribute<'s>(&mut self, pair: Pair<'s, Rule>) -> Attribute<'s> {
        let span = self.span(&pair);
        let mut parts = pair.into_inner();
        let name = parts
            .next()
            .expect("the rule `attribute` begins with a name");
        let argument = parts
            .find(|part| part.as_rule() == Rule::argument)
            .map(|part| self.argument(part));
        Attribute {
            name: self.name(&name),
            argument,
            span,
        }
    }

    fn argument<'s>(&mut self, pair: Pair<'s, Rule>) -> Argument<'s> {
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
        Argument {
            name,
            value: value.expect("the rule `argument` ends with a value"),
            span,
        }
    }

    fn param<'s>(&mut self, pair: Pair<'s, Rule>) -> StatementKind<'s> {
        let (mut name, mut ty, mut default, mut range) = (None, None, None, None);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => name = Some(self.name(&part)),
                Rule::type_name => ty = Some(self.type_name(part)),
                Rule::expr => default = Some(self.expr(part)),
                Rule::range => {
                    let mut ends = part.into_inner().map(|bound| self.expr(bound));
                    range = ends.next().zip(ends.next()).map(Box::new);
                }
                _ => {}
            }
        }
        let name = name.expect("the rule `param` has a name");
        self.reserved(&name);
        StatementKind::Param {
            name,
            ty,
            default,
            range,
        }
    }

    fn type_name<'s>(&self, pair: Pair<'s, Rule>) -> TypeName<'s> {
        let (span, list) = (self.span(&pair), pair.as_str().starts_with('['));
        let word = pair
            .into_inner()
            .next()
            .expect("the rule `type_name` holds a word")
            .as_str();
        TypeName { word, list, span }
    }

    /// Words of the language are no names: a reader, or the language itself, would take them for
    /// the word.
    fn reserved(&mut self, name: &Name<'_>) {
        if RESERVED.contains(&name.text) {
            let message = format!(
                "`{}` is a word of the language and cannot be a name",
                name.text
            );
            let help = format!("choose another name, such as `{}_`", name.text);
            self.diagnostics.push(
                Diagnostic::error(codes::RESERVED, message)
                    .at(name.span, "bound here")
                    .help(help),
            );
        }
    }

    fn export<'s>(&mut self, pair: Pair<'s, Rule>) -> StatementKind<'s> {
        let mut parts = pair
            .into_inner()
            .filter(|part| part.as_rule() != Rule::as_word);
        let mut next = || parts.next().expect("the rule `export` has three parts");
        let (name, format, path) = (next(), next(), next());
        StatementKind::Export {
            name: self.name(&name),
            format: self.name(&format),
            path: self.expr(path),
        }
    }

    fn binding<'s>(&mut self, pair: Pair<'s, Rule>) -> StatementKind<'s> {
        let mut parts = pair.into_inner();
        let name = parts.next().expect("the rule `binding` begins with a name");
        let value = parts.last().expect("the rule `binding` ends with a value");
        let name = self.name(&name);
        self.reserved(&name);
        StatementKind::Binding {
            name,
            value: self.expr(value),
        }
    }

    /// An expression, or one of the fewer kinds that may stand at some places.
    fn expr<'s>(&mut self, pair: Pair<'s, Rule>) -> Expr<'s> {
        let span = self.span(&pair);
        let mut parts = pair.into_inner();
        let inner = parts.next().expect("an expression holds one of its kinds");
        let kind = match inner.as_rule() {
            Rule::string => self.string(&inner),
            Rule::number => literal::number(inner.as_str()).unwrap_or_else(|problem| {
                self.diagnostics.push(problem.into_diagnostic(span));
                ExprKind::Fault
            }),
            Rule::list => {
                let values = inner
                    .into_inner()
                    .filter(|part| part.as_rule() == Rule::expr);
                ExprKind::List(values.map(|part| self.expr(part)).collect())
            }
            _ if parts.peek().is_some() => {
                let parts = parts.filter(|part| part.as_rule() == Rule::argument);
                // There are very many: no more room than they need.
                let mut args = Vec::with_capacity(parts.clone().count());
                args.extend(parts.map(|part| self.argument(part)));
                ExprKind::Call {
                    op: self.name(&inner),
                    args,
                }
            }
            _ => match inner.as_str() {
                "true" => ExprKind::Bool(true),
                "false" => ExprKind::Bool(false),
                name => ExprKind::Name(name),
            },
        };
        Expr { kind, span }
    }

    fn string(&mut self, pair: &Pair<'_, Rule>) -> ExprKind<'static> {
        let start = self.span(pair).start();
        let (text, faults) = literal::string(pair.as_str());
        let good = faults.is_empty();
        for fault in faults {
            self.diagnostics.push(fault.into_diagnostic(start));
        }
        if good {
            ExprKind::Str(text)
        } else {
            ExprKind::Fault
        }
    }

    /// Reports a piece that is no statement; whether it ends before the statement does.
    fn syntax(&mut self, error: &pest::error::Error<Rule>, text: &str, piece: &Piece) -> bool {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at.min(text.len()),
        };
        let expected = match &error.variant {
            ErrorVariant::ParsingError { positives, .. } => expected(positives),
            ErrorVariant::CustomError { .. } => Vec::new(),
        };
        let unnamed = !RESERVED.contains(&text) && Syntax::parse(Rule::expr_only, text).is_ok();
        let fault = Fault {
            text,
            at,
            expected: &expected,
            unnamed,
            indented: piece.indented,
        };
        self.diagnostics.push(fault.into_diagnostic(self.offset));
        fault.cut_short()
    }
}

/// What could have stood where a piece is no statement, from the rules that were tried there.
fn expected(rules: &[Rule]) -> Vec<&'static str> {
    let word = |rule: &Rule| match rule {
        Rule::ident => Some("a name"),
        Rule::path | Rule::expr | Rule::number | Rule::string | Rule::list | Rule::argument => {
            Some("a value")
        }
        Rule::attribute => Some("an attribute"),
        Rule::range | Rule::bound => Some("a range such as 0.0..1.0"),
        Rule::type_name => Some("a type"),
        Rule::target => Some("a path in quotes"),
        Rule::comma => Some("`,`"),
        Rule::list_end => Some("`]`"),
        Rule::call_end => Some("`)`"),
        Rule::equals => Some("`=`"),
        Rule::as_word => Some("`as`"),
        Rule::EOI => Some("the end of the statement"),
        Rule::statement | Rule::binding | Rule::param | Rule::export => Some("a statement"),
        _ => None,
    };
    let mut words: Vec<&str> = rules.iter().filter_map(word).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Whether a text is one name, such as `web_pairs`.
pub(crate) fn is_ident(text: &str) -> bool {
    Syntax::parse(Rule::ident_only, text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_from_its_own_text() {
        assert_eq!(parse_size("16GiB"), Some(16 << 30));
        assert_eq!(
            parse_size("\u{feff}16GiB"),
            Some(16 << 30),
            "a byte order mark"
        );
        assert_eq!(parse_size("\u{feff}\u{feff}   16GiB"), None);
        assert_eq!(
            (
                parse_size("16GiB # much"),
                parse_size("16GiB 1"),
                parse_size("")
            ),
            (None, None, None)
        );
    }
}
