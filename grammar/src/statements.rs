//! Splits a file into raw statements before any of them is parsed, so that an error in one does not
//! hide those in the others.
//!
//! A statement ends at the end of its line, unless a bracket is open there or the line has
//! attributes only. Where a bracket is never closed, the statement is reported and ends before the
//! next line that looks like the start of a statement.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::source::Source;
use crate::span::Span;
use crate::tokens::{
    Token, TokenKind, begins_line, begins_statement, is_hidden, matching_brackets, tokens,
};

/// Deeper nesting than any workflow has. The parser recurses once a level, so this also bounds its
/// stack.
pub(crate) const DEPTH_MAX: usize = 64;

/// At most so many hidden characters are reported: a file with more of them is no workflow.
const HIDDEN_MAX: usize = 10;

/// The text of one statement, not parsed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RawStatement {
    /// From its first attribute to its last character, without blanks and comments around it.
    pub(crate) span: Span,
    /// The name it seems to bind.
    pub(crate) name: Option<Span>,
    /// Whether its first line is indented.
    pub(crate) indented: bool,
    /// Whether an error was reported in it already. It is not parsed then: the parser would only
    /// stumble over the same error.
    pub(crate) broken: bool,
}

/// A file after splitting.
#[derive(Debug, Default)]
pub(crate) struct SplitSource {
    /// In file order.
    pub(crate) statements: Vec<RawStatement>,
    pub(crate) comments: Vec<Span>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What the attributes before a statement allow next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prefix {
    /// An attribute or the statement itself.
    BetweenAttributes,
    /// The name of an attribute, after its `@`.
    AttributeName,
    /// The bracket of an attribute, after its name; or anything that [`Prefix::BetweenAttributes`]
    /// allows.
    AttributeArgument,
    /// Nothing more: the statement itself has begun.
    Done,
}

struct Splitter<'a> {
    source: &'a Source,
    tokens: &'a [Token],
    matching: &'a [Option<usize>],
    output: SplitSource,
    /// The first and the last token so far of the current statement.
    current: Option<(usize, usize)>,
    prefix: Prefix,
    /// The brackets open in the current statement, outermost first.
    open: Vec<usize>,
    /// How many of `open` are never closed.
    unmatched: usize,
    /// Whether an unterminated string may have swallowed a closing bracket. Line ends mean nothing
    /// then, until something looks like the start of a statement.
    in_recovery: bool,
    broken: bool,
}

/// Splits a file into raw statements, in time linear in its length.
pub(crate) fn split(source: &Source) -> SplitSource {
    let tokens = tokens(source.text());
    let matching = matching_brackets(source.text(), &tokens);
    let mut splitter = Splitter {
        source,
        tokens: &tokens,
        matching: &matching,
        output: SplitSource::default(),
        current: None,
        prefix: Prefix::BetweenAttributes,
        open: Vec::new(),
        unmatched: 0,
        in_recovery: false,
        broken: false,
    };
    splitter.reject_hidden_characters();
    for (at, token) in tokens.iter().enumerate() {
        splitter.token(at, *token);
    }
    splitter.finish_statement();
    splitter.output
}

impl Splitter<'_> {
    /// Reports hidden characters anywhere, strings and comments included: they make a workflow look
    /// different from what it is.
    fn reject_hidden_characters(&mut self) {
        let text = self.source.text();
        let hidden = text
            .char_indices()
            .filter(|(at, c)| is_hidden(*c) && !text[*at..].starts_with("\r\n"));
        for (at, c) in hidden.take(HIDDEN_MAX) {
            let code_point = u32::from(c);
            let message = format!("the character U+{code_point:04X} is not allowed in a workflow");
            let help = match c {
                '\r' => "end lines with \\n or \\r\\n; in a string it is written as \\r".to_owned(),
                _ => format!("remove it; in a string it is written as \\u{{{code_point:x}}}"),
            };
            let diagnostic = Diagnostic::error(codes::CONTROL_CHARACTER, message)
                .at(
                    Span::new(at, at + c.len_utf8()),
                    "invisible, or reorders the text around it",
                )
                .help(help);
            self.output.diagnostics.push(diagnostic);
        }
    }

    fn token(&mut self, at: usize, token: Token) {
        let inside = self.in_recovery || !self.open.is_empty();
        if inside && self.looks_like_statement(at) {
            self.finish_statement();
        }
        match token.kind {
            TokenKind::Comment => return self.output.comments.push(token.span),
            TokenKind::Newline => return self.newline(),
            _ => {}
        }
        let first = self.current.map_or(at, |(first, _)| first);
        self.current = Some((first, at));
        if self.open.is_empty() {
            self.prefix = self.prefix.after(token.kind);
        }
        match token.kind {
            TokenKind::Open => self.open_bracket(at, token.span),
            TokenKind::Close => self.close_bracket(at, token.span),
            TokenKind::UnterminatedStr => self.unterminated_string(token.span),
            TokenKind::Hidden => self.broken = true,
            _ => {}
        }
    }

    /// Ends the statement at the end of a line. Attributes alone are none yet; a lone `@` is, since
    /// its name has to follow on the same line.
    fn newline(&mut self) {
        let complete = matches!(self.prefix, Prefix::Done | Prefix::AttributeName);
        if complete && self.open.is_empty() && !self.in_recovery {
            self.finish_statement();
        }
    }

    /// Whether a statement begins at a token although the current one seems to go on.
    fn looks_like_statement(&self, at: usize) -> bool {
        if begins_statement(self.source.text(), self.tokens, at) {
            return true;
        }
        // `name = …` at the start of a line may also be a named argument that is not indented. It
        // is more likely a statement only where a bracket is known to be missing.
        let bracket_missing = self.in_recovery || self.unmatched > 0;
        bracket_missing
            && begins_line(self.tokens, at)
            && !self.is_indented(at)
            && self.is_binding(at)
    }

    /// Whether the tokens from `at` on are `name =`.
    fn is_binding(&self, at: usize) -> bool {
        let is_word = self.kind(at) == Some(TokenKind::Word);
        let sign = self.tokens.get(at + 1);
        is_word
            && sign.is_some_and(|sign| {
                sign.kind == TokenKind::Other && self.source.slice(sign.span) == "="
            })
    }

    fn is_indented(&self, at: usize) -> bool {
        let start = self.tokens.get(at).map_or(0, |token| token.span.start());
        let before = self.source.text().get(..start).unwrap_or("");
        before.ends_with([' ', '\t'])
    }

    fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// The index of the bracket that matches the one at `at`.
    fn matching(&self, at: usize) -> Option<usize> {
        self.matching.get(at).copied().flatten()
    }

    fn open_bracket(&mut self, at: usize, span: Span) {
        self.open.push(at);
        self.unmatched += usize::from(self.matching(at).is_none());
        if self.open.len() == DEPTH_MAX + 1 {
            let message = format!("brackets are nested more than {DEPTH_MAX} levels deep");
            self.error(
                Diagnostic::error(codes::TOO_DEEP, message)
                    .at(span, "one level too deep")
                    .help("bind the inner calls to names"),
            );
        }
    }

    fn close_bracket(&mut self, at: usize, span: Span) {
        let place = self
            .matching(at)
            .and_then(|opening| self.open.iter().rposition(|open| *open == opening));
        match place {
            Some(place) => {
                self.report_unclosed(place + 1, Some(span));
                self.pop_brackets(place);
            }
            None => self.report_unmatched(span),
        }
    }

    /// Reports the closing bracket at `span`, which matches no opening one.
    fn report_unmatched(&mut self, span: Span) {
        let close = self.source.slice(span);
        let open = if close == ")" { "(" } else { "[" };
        let diagnostic = Diagnostic::error(codes::UNBALANCED, format!("unmatched `{close}`"))
            .at(span, format!("no `{open}` is open here"));
        let innermost = self.open.last().and_then(|open| self.tokens.get(*open));
        self.error(match innermost {
            Some(innermost) => {
                let note = format!("`{}` is open", self.source.slice(innermost.span));
                diagnostic
                    .note(innermost.span, note)
                    .help("use the bracket that matches the open one, or remove this one")
            }
            None => diagnostic.help(format!("remove it, or add the missing `{open}`")),
        });
    }

    /// Removes the brackets from index `from` on from the stack of open ones.
    fn pop_brackets(&mut self, from: usize) {
        while self.open.len() > from {
            let open = self.open.pop();
            self.unmatched -= usize::from(open.is_some_and(|open| self.matching(open).is_none()));
        }
    }

    /// Reports the brackets on the stack, from index `from` on, that are never closed: one
    /// diagnostic, at the innermost of them. `closing` is the bracket that closes the one around
    /// them, if they were noticed there.
    fn report_unclosed(&mut self, from: usize, closing: Option<Span>) {
        let open = self.open.get(from..).unwrap_or(&[]);
        let unclosed: Vec<Span> = open
            .iter()
            .rev()
            .filter(|open| self.matching(**open).is_none())
            .filter_map(|open| self.tokens.get(*open))
            .map(|token| token.span)
            .collect();
        let Some(innermost) = unclosed.first() else {
            return;
        };
        let missing: String = unclosed
            .iter()
            .map(|span| self.closing_for(*span))
            .collect();
        let message = format!("`{}` is never closed", self.source.slice(*innermost));
        let diagnostic =
            Diagnostic::error(codes::UNBALANCED, message).at(*innermost, "opened here");
        self.error(match closing {
            Some(span) => {
                let close = self.source.slice(span);
                diagnostic
                    .note(span, format!("this `{close}` closes the bracket around it"))
                    .help(format!("add `{missing}`"))
            }
            None => diagnostic.help(format!("add `{missing}` at the end of its arguments")),
        });
    }

    fn closing_for(&self, open: Span) -> char {
        if self.source.slice(open) == "(" {
            ')'
        } else {
            ']'
        }
    }

    fn unterminated_string(&mut self, span: Span) {
        let diagnostic = Diagnostic::error(codes::UNTERMINATED_STRING, "unterminated string")
            .at(span, "the line ends before the closing `\"`")
            .help("close it on the same line; a line break inside a string is written as \\n");
        self.error(diagnostic);
        self.in_recovery = !self.open.is_empty();
        self.pop_brackets(0);
        self.prefix = Prefix::Done;
    }

    /// Reports the first error of a statement. The following ones are mostly consequences of it.
    fn error(&mut self, diagnostic: Diagnostic) {
        if !self.broken {
            self.output.diagnostics.push(diagnostic);
        }
        self.broken = true;
    }

    fn finish_statement(&mut self) {
        self.report_unclosed(0, None);
        if let Some((first, last)) = self.current.take() {
            let statement = RawStatement {
                span: self.span(first).to(self.span(last)),
                name: self.bound_name(first, last),
                indented: self.is_indented(first),
                broken: self.broken,
            };
            self.output.statements.push(statement);
        }
        self.broken = false;
        self.in_recovery = false;
        self.pop_brackets(0);
        self.prefix = Prefix::BetweenAttributes;
    }

    fn span(&self, at: usize) -> Span {
        self.tokens
            .get(at)
            .map_or(Span::new(0, 0), |token| token.span)
    }

    /// The name that the statement of these tokens seems to bind.
    fn bound_name(&self, first: usize, last: usize) -> Option<Span> {
        let at = self.skip_attributes(first, last);
        let is_word = |at: usize| at <= last && self.kind(at) == Some(TokenKind::Word);
        if !is_word(at) {
            return None;
        }
        if self.source.slice(self.span(at)) == "param" && is_word(at + 1) {
            return Some(self.span(at + 1));
        }
        self.is_binding(at).then(|| self.span(at))
    }

    /// The index of the first token after the attributes that a statement begins with.
    fn skip_attributes(&self, first: usize, last: usize) -> usize {
        let mut at = first;
        while at < last && self.kind(at) == Some(TokenKind::At) {
            at += 2;
            if self.kind(at) == Some(TokenKind::Open)
                && let Some(close) = self.matching(at)
            {
                at = close + 1;
            }
            while matches!(self.kind(at), Some(TokenKind::Newline | TokenKind::Comment)) {
                at += 1;
            }
        }
        at
    }
}

impl Prefix {
    /// The state after a token outside of brackets.
    fn after(self, token: TokenKind) -> Prefix {
        match (self, token) {
            (Prefix::BetweenAttributes | Prefix::AttributeArgument, TokenKind::At) => {
                Prefix::AttributeName
            }
            (Prefix::AttributeName, TokenKind::Word) => Prefix::AttributeArgument,
            (Prefix::AttributeArgument, TokenKind::Open) => Prefix::BetweenAttributes,
            _ => Prefix::Done,
        }
    }
}
