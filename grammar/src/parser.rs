//! Text to tree. The only file that names pest.

mod syntax_error;

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
use crate::statements::{self, RawStatement};

use self::rules::{Rule, Syntax};
use self::syntax_error::SyntaxError;

mod rules {
    #[derive(Debug, pest_derive::Parser)]
    #[grammar = "../grammar.pest"]
    pub(super) struct Syntax;
}

/// Reserved words: no binding or param can have them as its name.
pub(crate) const RESERVED: [&str; 4] = ["param", "export", "true", "false"];

/// Starting pest costs about as much as parsing a statement, so it gets many at once.
const BATCH: usize = 64;

/// A parsed file with its syntax errors.
#[derive(Clone, PartialEq, Debug)]
pub struct Parsed<'s> {
    pub file: File<'s>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a file. Never fails: errors are diagnostics, and all other statements are in the tree.
pub fn parse(source: &Source) -> Parsed<'_> {
    let split = statements::split(source);
    let parsed = parse_statements(source, &split.statements);
    let mut file = File {
        statements: parsed.statements,
        comments: split.comments,
        ..File::default()
    };
    let mut diagnostics = split.diagnostics;
    diagnostics.extend(parsed.diagnostics);
    let mut rejected = parsed.rejected.into_iter().peekable();
    // Whether the raw statement before ended too early.
    let mut incomplete = false;
    for raw in split.statements {
        let after_incomplete = std::mem::take(&mut incomplete);
        match rejected.next_if(|(span, _)| *span == raw.span) {
            // Most likely the rest of the incomplete statement, which has its error already.
            Some(_) if after_incomplete && raw.name.is_none() && raw.indented => {}
            Some((_, error)) => {
                let text = source.slice(raw.span);
                let expected = expected(&error);
                let error = syntax_error(&error, &expected, text, &raw);
                incomplete = error.is_incomplete();
                diagnostics.push(error.into_diagnostic(raw.span.start()));
            }
            None if raw.broken => {}
            None => continue,
        }
        file.unparsed.extend(raw.name.map(|span| Name {
            text: source.slice(span),
            span,
        }));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    file.complete = diagnostics.is_empty();
    shorten(&mut diagnostics, 0);
    Parsed { file, diagnostics }
}

type PestError = pest::error::Error<Rule>;

/// What pest made of raw statements.
#[derive(Default)]
struct ParsedStatements<'s> {
    statements: Vec<Statement<'s>>,
    /// Errors that pest does not find, such as bad escapes.
    diagnostics: Vec<Diagnostic>,
    /// The raw statements that pest rejected, in file order.
    rejected: Vec<(Span, Box<PestError>)>,
}

/// Parses the raw statements that are not broken, in batches. A batch in which anything is wrong is
/// parsed again one by one, so that each error stays in its own statement.
fn parse_statements<'s>(source: &'s Source, raw: &[RawStatement]) -> ParsedStatements<'s> {
    let mut parsed = ParsedStatements {
        statements: Vec::with_capacity(raw.len()),
        ..ParsedStatements::default()
    };
    for batch in raw.chunks(BATCH) {
        if parsed.add_batch(source, batch) {
            continue;
        }
        for raw in batch.iter().filter(|raw| !raw.broken) {
            parsed.add(source, raw);
        }
    }
    parsed
}

impl<'s> ParsedStatements<'s> {
    /// Parses raw statements as one text. Adds nothing and returns false unless that gives exactly
    /// these statements.
    fn add_batch(&mut self, source: &'s Source, batch: &[RawStatement]) -> bool {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return true;
        };
        if batch.iter().any(|raw| raw.broken) {
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
        // Pest ends a statement where it can, which may be before the end of the raw one.
        let found = pairs.clone().map(|pair| builder.span(&pair));
        if !found.eq(batch.iter().map(|raw| raw.span)) {
            return false;
        }
        let statements = pairs.map(|pair| builder.statement(pair));
        self.statements.extend(statements);
        true
    }

    fn add(&mut self, source: &'s Source, raw: &RawStatement) {
        let mut builder = Builder {
            offset: raw.span.start(),
            diagnostics: &mut self.diagnostics,
        };
        match Syntax::parse(Rule::statement_only, source.slice(raw.span)) {
            Ok(mut pairs) => {
                let statement = pairs.next().map(|pair| builder.statement(pair));
                self.statements.extend(statement);
            }
            Err(error) => self.rejected.push((raw.span, Box::new(error))),
        }
    }
}

/// The error of a raw statement, whose text is `text`.
fn syntax_error<'a>(
    error: &PestError,
    expected: &'a [&'static str],
    text: &'a str,
    raw: &RawStatement,
) -> SyntaxError<'a> {
    let (InputLocation::Pos(at) | InputLocation::Span((at, _))) = error.location;
    let is_value = !RESERVED.contains(&text) && Syntax::parse(Rule::expr_only, text).is_ok();
    SyntaxError {
        text,
        at: at.min(text.len()),
        expected,
        unnamed_value: is_value,
        indented: raw.indented,
    }
}

/// What was expected where pest stopped, in words, from the rules that it tried there.
fn expected(error: &PestError) -> Vec<&'static str> {
    let ErrorVariant::ParsingError { positives, .. } = &error.variant else {
        return Vec::new();
    };
    let mut words: Vec<&str> = positives.iter().filter_map(words_for).collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn words_for(rule: &Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::ident => "a name",
        Rule::path | Rule::expr | Rule::number | Rule::string | Rule::list | Rule::argument => {
            "a value"
        }
        Rule::attribute => "an attribute",
        Rule::range | Rule::bound => "a range such as 0.0..1.0",
        Rule::type_name => "a type",
        Rule::target => "a path in quotes",
        Rule::comma => "`,`",
        Rule::list_end => "`]`",
        Rule::call_end => "`)`",
        Rule::equals => "`=`",
        Rule::as_word => "`as`",
        Rule::EOI => "the end of the statement",
        Rule::statement | Rule::binding | Rule::param | Rule::export => "a statement",
        _ => return None,
    })
}

/// Parses a value by itself, such as that of an override. `None` for a text that is no value.
pub(crate) fn parse_value(text: &str) -> Option<Expr<'_>> {
    let source = Source::new("", text).ok()?;
    // `Source` drops a byte order mark at the start, and spans are relative to what is left.
    let text = text.get(text.len() - source.text().len()..)?;
    let split = statements::split(&source);
    let [raw] = split.statements.as_slice() else {
        return None;
    };
    if raw.broken || !split.comments.is_empty() || !split.diagnostics.is_empty() {
        return None;
    }
    let value = text.get(raw.span.start()..raw.span.end())?;
    let mut pairs = Syntax::parse(Rule::expr_only, value).ok()?;
    let mut diagnostics = Vec::new();
    let mut builder = Builder {
        offset: raw.span.start(),
        diagnostics: &mut diagnostics,
    };
    let expr = builder.expr(pairs.next()?);
    diagnostics.is_empty().then_some(expr)
}

/// The bytes of a size as written in the language, such as `16GiB`; `None` for any other text.
pub fn parse_size(text: &str) -> Option<u64> {
    match parse_value(text)?.kind {
        ExprKind::Size(bytes) => Some(bytes),
        _ => None,
    }
}

/// The milliseconds of a duration as written in the language, such as `10min`; `None` for any other
/// text.
pub fn parse_duration(text: &str) -> Option<u64> {
    match parse_value(text)?.kind {
        ExprKind::Duration(milliseconds) => Some(milliseconds),
        _ => None,
    }
}

/// Whether a text is one name, such as `web_pairs`.
pub(crate) fn is_ident(text: &str) -> bool {
    Syntax::parse(Rule::ident_only, text).is_ok()
}

/// Builds the tree from what pest matched. The `expect`s cannot fail: pest matched the rule, so its
/// parts are there.
struct Builder<'a> {
    /// Where the text that pest was given begins in the source.
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
        let argument = parts.find(|part| part.as_rule() == Rule::argument);
        let argument = argument.map(|part| self.argument(part));
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
        self.reject_reserved(&name);
        StatementKind::Param {
            name,
            ty,
            default,
            range,
        }
    }

    fn type_name<'s>(&self, pair: Pair<'s, Rule>) -> TypeName<'s> {
        let (span, list) = (self.span(&pair), pair.as_str().starts_with('['));
        let mut parts = pair.into_inner();
        let word = parts.next().expect("the rule `type_name` holds a word");
        TypeName {
            word: word.as_str(),
            list,
            span,
        }
    }

    fn reject_reserved(&mut self, name: &Name<'_>) {
        let Name { text, span } = *name;
        if !RESERVED.contains(&text) {
            return;
        }
        let message = format!("`{text}` is a reserved word and cannot be a name");
        let diagnostic = Diagnostic::error(codes::RESERVED, message)
            .at(span, "bound here")
            .help(format!("choose another name, such as `{text}_`"));
        self.diagnostics.push(diagnostic);
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
        self.reject_reserved(&name);
        StatementKind::Binding {
            name,
            value: self.expr(value),
        }
    }

    /// Of the rule `expr`, or of `bound` or `target`, which allow fewer kinds.
    fn expr<'s>(&mut self, pair: Pair<'s, Rule>) -> Expr<'s> {
        let span = self.span(&pair);
        let mut parts = pair.into_inner();
        let inner = parts.next().expect("an expression holds one of its kinds");
        let kind = match inner.as_rule() {
            Rule::string => self.string(&inner),
            Rule::number => literal::number(inner.as_str()).unwrap_or_else(|bad| {
                self.diagnostics.push(bad.into_diagnostic(span));
                ExprKind::Error
            }),
            Rule::list => {
                let values = inner
                    .into_inner()
                    .filter(|part| part.as_rule() == Rule::expr);
                ExprKind::List(values.map(|part| self.expr(part)).collect())
            }
            _ if parts.peek().is_some() => {
                let parts = parts.filter(|part| part.as_rule() == Rule::argument);
                // A workflow may have very many calls: allocate no more than each needs.
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
        let (text, bad_escapes) = literal::string(pair.as_str());
        if bad_escapes.is_empty() {
            return ExprKind::Str(text);
        }
        let diagnostics = bad_escapes
            .into_iter()
            .map(|bad| bad.into_diagnostic(start));
        self.diagnostics.extend(diagnostics);
        ExprKind::Error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_parsed_by_itself() {
        assert_eq!(parse_size("16GiB"), Some(16 << 30));
        assert_eq!(
            parse_size("\u{feff}16GiB"),
            Some(16 << 30),
            "a byte order mark"
        );
        assert_eq!(parse_size("\u{feff}\u{feff}   16GiB"), None);
        assert_eq!(
            (
                parse_size("16GiB # comment"),
                parse_size("16GiB 1"),
                parse_size("")
            ),
            (None, None, None)
        );
    }
}
