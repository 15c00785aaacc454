//! Cuts a file into statements before any of them is parsed, so that one fault does not hide the
//! others.
//!
//! A statement ends at the end of its line, unless a bracket is open there or the line holds
//! attributes only. A bracket that nothing closes was forgotten: the statement is cut, and
//! reported, where a line begins like a new one.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::source::Source;
use crate::span::Span;
use crate::tokens::{Token, TokenKind, begins_line, begins_surely, is_hidden, partners, tokens};

/// Deeper nesting than any workflow has; the parser recurses once a level.
pub(crate) const DEPTH_MAX: usize = 64;

/// As many hidden characters are listed; a file with more of them is some other file.
const HIDDEN_MAX: usize = 10;

/// The text of one statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// From its first attribute to its last character, blanks and comments around it left out.
    pub(crate) span: Span,
    /// The name it seems to bind.
    pub(crate) name: Option<Span>,
    /// Whether its first line is indented.
    pub(crate) indented: bool,
    /// Whether a fault was found in it already: it is not parsed, since its first fault is the one
    /// that helps.
    pub(crate) broken: bool,
}

/// The pieces of a file.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// One a statement, in file order.
    pub(crate) statements: Vec<Piece>,
    /// All comments.
    pub(crate) comments: Vec<Span>,
    /// What is wrong before parsing.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// How far the attributes before a statement are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Head {
    /// Nothing is open: an attribute or the statement itself comes next.
    Between,
    /// After `@`.
    Sign,
    /// After an attribute's name: its bracket may come.
    Name,
    /// In the statement itself.
    Body,
}

struct Cutter<'a> {
    source: &'a Source,
    tokens: &'a [Token],
    partners: &'a [Option<usize>],
    pieces: Pieces,
    /// The tokens of the statement in hand: from the first to the last so far.
    held: Option<(usize, usize)>,
    head: Head,
    /// The brackets open in it, outermost first.
    open: Vec<usize>,
    /// How many of them nothing closes.
    forgotten: usize,
    /// Whether a string swallowed a closing bracket: nothing is known until a statement begins.
    adrift: bool,
    broken: bool,
}

/// Cuts. Takes time in proportion to the text.
pub(crate) fn cut(source: &Source) -> Pieces {
    let tokens = tokens(source.text());
    let partners = partners(source.text(), &tokens);
    let mut cutter = Cutter {
        source,
        tokens: &tokens,
        partners: &partners,
        pieces: Pieces::default(),
        held: None,
        head: Head::Between,
        open: Vec::new(),
        forgotten: 0,
        adrift: false,
        broken: false,
    };
    cutter.refuse_hidden();
    for (at, token) in tokens.iter().enumerate() {
        cutter.token(at, *token);
    }
    cutter.finish();
    cutter.pieces
}

impl Cutter<'_> {
    /// Characters that make text look like something else are refused everywhere, comments
    /// included.
    fn refuse_hidden(&mut self) {
        let text = self.source.text();
        let newline_follows = |at: usize| {
            text.get(at + 1..)
                .is_some_and(|rest| rest.starts_with('\n'))
        };
        let hidden = text
            .char_indices()
            .filter(|(at, c)| is_hidden(*c) && !(*c == '\r' && newline_follows(*at)));
        for (at, c) in hidden.take(HIDDEN_MAX) {
            let message = format!(
                "the character U+{:04X} is not allowed in a workflow",
                u32::from(c)
            );
            let help = match c {
                '\r' => "end lines with \\n or \\r\\n; in a string it is written as \\r".to_owned(),
                c => format!(
                    "remove it; in a string it is written as \\u{{{:x}}}",
                    u32::from(c)
                ),
            };
            let diagnostic = Diagnostic::error(codes::CONTROL_CHARACTER, message)
                .at(
                    Span::new(at, at + c.len_utf8()),
                    "it hides, or reorders what a reader sees",
                )
                .help(help);
            self.pieces.diagnostics.push(diagnostic);
        }
    }

    fn token(&mut self, at: usize, token: Token) {
        if (self.adrift || !self.open.is_empty()) && self.begins_statement(at) {
            self.finish();
        }
        match token.kind {
            TokenKind::Comment => return self.pieces.comments.push(token.span),
            TokenKind::Newline => {
                let ended = matches!(self.head, Head::Body | Head::Sign)
                    && self.open.is_empty()
                    && !self.adrift;
                if ended {
                    self.finish();
                }
                return;
            }
            _ => {}
        }
        self.held = Some((self.held.map_or(at, |(first, _)| first), at));
        if self.open.is_empty() {
            self.head = match (self.head, token.kind) {
                (Head::Between | Head::Name, TokenKind::At) => Head::Sign,
                (Head::Sign, TokenKind::Word) => Head::Name,
                (Head::Name, TokenKind::Open) => Head::Between,
                _ => Head::Body,
            };
        }
        match token.kind {
            TokenKind::Open => self.opens(at, token.span),
            TokenKind::Close => self.closes(at, token.span),
            TokenKind::OpenStr => self.unterminated(token.span),
            TokenKind::Hidden => self.broken = true,
            _ => {}
        }
    }

    /// Whether a statement begins at a token although brackets are open before it.
    fn begins_statement(&self, at: usize) -> bool {
        if begins_surely(self.source.text(), self.tokens, at) {
            return true;
        }
        // `name = …` is also how a named argument looks that nobody indented. Only where a bracket
        // is never closed is it more likely a statement.
        let doubtful = self.adrift || self.forgotten > 0;
        doubtful && begins_line(self.tokens, at) && !self.indented(at) && self.bound(at)
    }

    /// Whether `name =` stands at a token.
    fn bound(&self, at: usize) -> bool {
        let kind = |at: usize| self.tokens.get(at).map(|token| token.kind);
        let text = self
            .tokens
            .get(at + 1)
            .map_or("", |token| self.source.slice(token.span));
        kind(at) == Some(TokenKind::Word) && kind(at + 1) == Some(TokenKind::Other) && text == "="
    }

    fn indented(&self, at: usize) -> bool {
        let start = self.tokens.get(at).map_or(0, |token| token.span.start());
        let before = self.source.text().get(..start).unwrap_or("");
        before.ends_with([' ', '\t'])
    }

    fn partner(&self, at: usize) -> Option<usize> {
        self.partners.get(at).copied().flatten()
    }

    fn opens(&mut self, at: usize, span: Span) {
        self.open.push(at);
        self.forgotten += usize::from(self.partner(at).is_none());
        if self.open.len() == DEPTH_MAX + 1 {
            let message = format!("brackets are nested more than {DEPTH_MAX} deep");
            self.error(
                Diagnostic::error(codes::TOO_DEEP, message)
                    .at(span, "this one is too much")
                    .help("bind the inner calls to names of their own"),
            );
        }
    }

    fn closes(&mut self, at: usize, span: Span) {
        let close = self.source.slice(span);
        if let Some(place) = self
            .partner(at)
            .and_then(|partner| self.open.iter().rposition(|open| *open == partner))
        {
            self.unclosed(place + 1, Some(span));
            return self.shut(place);
        }
        let open = if close == ")" { "(" } else { "[" };
        let diagnostic = Diagnostic::error(codes::UNBALANCED, format!("`{close}` closes nothing"))
            .at(span, format!("no `{open}` is open here"));
        let innermost = self
            .open
            .last()
            .and_then(|open| self.tokens.get(*open))
            .map(|token| token.span);
        self.error(match innermost {
            Some(innermost) => {
                let note = format!("`{}` is open", self.source.slice(innermost));
                diagnostic
                    .note(innermost, note)
                    .help("use the bracket that fits the one opened, or remove this one")
            }
            None => diagnostic.help(format!("remove it, or put the `{open}` where it belongs")),
        });
    }

    /// Takes the brackets from `from` on for closed.
    fn shut(&mut self, from: usize) {
        while self.open.len() > from {
            let open = self.open.pop();
            self.forgotten -= usize::from(open.is_some_and(|open| self.partner(open).is_none()));
        }
    }

    /// Reports the innermost of the brackets that are open, from `from` on, and that nothing
    /// closes.
    fn unclosed(&mut self, from: usize, before: Option<Span>) {
        let forgotten = self
            .open
            .get(from..)
            .unwrap_or(&[])
            .iter()
            .rev()
            .filter(|open| self.partner(**open).is_none());
        let forgotten: Vec<Span> = forgotten
            .filter_map(|open| self.tokens.get(*open))
            .map(|token| token.span)
            .collect();
        let Some(innermost) = forgotten.first() else {
            return;
        };
        let closing = |span: &Span| {
            if self.source.slice(*span) == "(" {
                ')'
            } else {
                ']'
            }
        };
        let missing: String = forgotten.iter().map(closing).collect();
        let message = format!("`{}` is never closed", self.source.slice(*innermost));
        let diagnostic =
            Diagnostic::error(codes::UNBALANCED, message).at(*innermost, "opened here");
        self.error(match before {
            Some(span) => {
                let close = self.source.slice(span);
                diagnostic
                    .note(span, format!("this `{close}` closes the bracket around it"))
                    .help(format!("add `{missing}`"))
            }
            None => diagnostic.help(format!("add `{missing}` at the end of its arguments")),
        });
    }

    fn unterminated(&mut self, span: Span) {
        let diagnostic =
            Diagnostic::error(codes::UNTERMINATED_STRING, "the string has no closing `\"`")
                .at(span, "its line ends first")
                .help("close it on the same line; a line break inside a string is written as \\n");
        self.error(diagnostic);
        self.adrift = !self.open.is_empty();
        self.shut(0);
        self.head = Head::Body;
    }

    /// Of a statement's faults the first one is told.
    fn error(&mut self, diagnostic: Diagnostic) {
        if !self.broken {
            self.pieces.diagnostics.push(diagnostic);
        }
        self.broken = true;
    }

    fn finish(&mut self) {
        self.unclosed(0, None);
        if let Some((first, last)) = self.held.take() {
            let place = |at: usize| {
                self.tokens
                    .get(at)
                    .map_or(Span::new(0, 0), |token| token.span)
            };
            let span = place(first).to(place(last));
            let piece = Piece {
                span,
                name: self.name(first, last),
                indented: self.indented(first),
                broken: self.broken,
            };
            self.pieces.statements.push(piece);
        }
        self.broken = false;
        self.adrift = false;
        self.shut(0);
        self.head = Head::Between;
    }

    /// The name that the statement of these tokens seems to bind.
    fn name(&self, first: usize, last: usize) -> Option<Span> {
        let mut at = first;
        // Attributes, each with its bracket.
        while self
            .tokens
            .get(at)
            .is_some_and(|token| token.kind == TokenKind::At)
            && at < last
        {
            at += 2;
            if let (Some(TokenKind::Open), Some(close)) = (
                self.tokens.get(at).map(|token| token.kind),
                self.partner(at),
            ) {
                at = close + 1;
            }
            while self
                .tokens
                .get(at)
                .is_some_and(|token| matches!(token.kind, TokenKind::Newline | TokenKind::Comment))
            {
                at += 1;
            }
        }
        let span = |at: usize| {
            self.tokens
                .get(at)
                .filter(|token| token.kind == TokenKind::Word && at <= last)
                .map(|token| token.span)
        };
        let word = span(at)?;
        if self.source.slice(word) == "param" && span(at + 1).is_some() {
            return span(at + 1);
        }
        self.bound(at).then_some(word)
    }
}
