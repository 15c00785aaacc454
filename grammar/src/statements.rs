//! Cuts a file into statements before any of them is parsed, so that one fault does not hide the others.
//!
//! A statement ends at the end of its line, unless a bracket is open there or the line holds attributes only. A bracket
//! still open where a line begins like a new statement was forgotten: the statement is cut there and reported.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::source::Source;
use crate::span::Span;

/// Deeper nesting than any workflow has; the parser recurses once a level.
const DEPTH_MAX: usize = 64;

/// The pieces of a file.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// One statement each, to be parsed.
    pub(crate) statements: Vec<Span>,
    /// All comments.
    pub(crate) comments: Vec<Span>,
    /// What is wrong before parsing.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

struct Cutter<'a> {
    source: &'a Source,
    pieces: Pieces,
    /// Where the statement in hand begins, if one has begun.
    start: Option<usize>,
    /// Where it ends so far, blanks and comments left out.
    end: usize,
    brackets: Vec<(usize, char)>,
    broken: bool,
}

/// Cuts.
pub(crate) fn cut(source: &Source) -> Pieces {
    let mut cutter =
        Cutter { source, pieces: Pieces::default(), start: None, end: 0, brackets: Vec::new(), broken: false };
    cutter.refuse_hidden();
    cutter.cut();
    cutter.pieces
}

impl Cutter<'_> {
    /// Characters that make text look like something else are refused everywhere, comments included.
    fn refuse_hidden(&mut self) {
        let hidden = |c: char| {
            matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') || (c.is_control() && !"\n\r\t".contains(c))
        };
        for (at, c) in self.source.text().char_indices().filter(|(_, c)| hidden(*c)).take(10) {
            let message = format!("the character U+{:04X} is not allowed in a workflow", u32::from(c));
            let diagnostic = Diagnostic::error(codes::CONTROL_CHARACTER, message)
                .at(Span::new(at, at + c.len_utf8()), "it can hide or reorder what a reader sees")
                .help("remove it; in a string it can be written as an escape, such as \\u{202e}");
            self.pieces.diagnostics.push(diagnostic);
        }
    }

    fn cut(&mut self) {
        let text = self.source.text();
        let mut at = 0;
        let mut line_start = true;
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            if line_start && !self.brackets.is_empty() && self.begins_statement(at) {
                self.forgotten();
                self.finish();
            }
            line_start = c == '\n';
            match c {
                '\n' => {
                    if self.brackets.is_empty() && !self.attributes_only() {
                        self.finish();
                    }
                    at += 1;
                }
                ' ' | '\t' | '\r' => at += 1,
                '#' => {
                    let end = text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |len| at + len);
                    let trimmed = at + text.get(at..end).unwrap_or("").trim_end().len();
                    self.pieces.comments.push(Span::new(at, trimmed));
                    at = end;
                }
                '"' => at = self.string(at),
                _ => at = self.other(at, c),
            }
        }
        if !self.brackets.is_empty() {
            self.forgotten();
        }
        self.finish();
    }

    fn begin(&mut self, at: usize) {
        if self.start.is_none() {
            self.start = Some(at);
        }
    }

    /// Whether the statement in hand consists of attributes so far: it goes on in the next line.
    fn attributes_only(&self) -> bool {
        let Some(start) = self.start else { return false };
        let mut rest = self.source.text().get(start..self.end).unwrap_or("");
        while let Some(attribute) = rest.strip_prefix('@') {
            let name = attribute.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(attribute.len());
            rest = attribute.get(name..).unwrap_or("").trim_start();
            if rest.starts_with('(') {
                let Some(close) = rest.find(')') else { return false };
                rest = rest.get(close + 1..).unwrap_or("").trim_start();
            }
        }
        rest.is_empty()
    }

    fn other(&mut self, at: usize, c: char) -> usize {
        self.begin(at);
        let end = at + c.len_utf8();
        match c {
            '(' | '[' => {
                self.brackets.push((at, c));
                if self.brackets.len() == DEPTH_MAX + 1 {
                    let message = format!("brackets are nested more than {DEPTH_MAX} deep");
                    self.error(
                        Diagnostic::error(codes::TOO_DEEP, message)
                            .at(Span::new(at, end), "this one is too much")
                            .help("bind inner calls to names of their own"),
                    );
                }
            }
            ')' | ']' => {
                let open = if c == ')' { '(' } else { '[' };
                if self.brackets.pop().is_none_or(|(_, found)| found != open) && !self.broken {
                    let message = format!("`{c}` closes no `{open}`");
                    self.error(
                        Diagnostic::error(codes::UNBALANCED, message)
                            .at(Span::new(at, end), "nothing of its kind is open here")
                            .help("remove it, or open the bracket before it"),
                    );
                }
            }
            _ => {}
        }
        self.end = end;
        end
    }

    fn string(&mut self, at: usize) -> usize {
        self.begin(at);
        let rest = self.source.text().get(at + 1..).unwrap_or("");
        let mut escaped = false;
        for (place, c) in rest.char_indices() {
            match c {
                _ if escaped && c != '\n' => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    self.end = at + place + 2;
                    return self.end;
                }
                '\n' => {
                    self.unterminated(at, at + 1 + place);
                    return at + 1 + place;
                }
                _ => {}
            }
        }
        self.unterminated(at, self.source.text().len());
        self.source.text().len()
    }

    fn unterminated(&mut self, start: usize, end: usize) {
        self.end = end;
        let diagnostic = Diagnostic::error(codes::UNTERMINATED_STRING, "the string has no closing `\"`")
            .at(Span::new(start, end), "it begins here and its line ends first")
            .help("close it on the same line; a line break inside is written as \\n");
        self.error(diagnostic);
        self.brackets.clear();
    }

    /// Whether the line at `at` looks like the start of a statement: `name = …` at its very beginning.
    fn begins_statement(&self, at: usize) -> bool {
        let line = self.source.text().get(at..).unwrap_or("").lines().next().unwrap_or("");
        let word: usize = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(line.len());
        let (name, rest) = line.split_at(word);
        let keyword = matches!(name, "param" | "export") && rest.starts_with(' ');
        let attribute = line.starts_with('@');
        // `name = value` at the start of a line is also how a named argument looks that nobody indented; with an
        // opening bracket or an end of the line behind it, it is more likely a statement.
        keyword || attribute || (!name.is_empty() && rest.trim_start().starts_with('=') && line.contains('('))
    }

    fn forgotten(&mut self) {
        let Some((at, open)) = self.brackets.last().copied() else { return };
        if !self.broken {
            let close = if open == '(' { ')' } else { ']' };
            let diagnostic = Diagnostic::error(codes::UNBALANCED, format!("`{open}` is never closed"))
                .at(Span::new(at, at + 1), "opened here")
                .help(format!("add the `{close}`"));
            self.error(diagnostic);
        }
        self.brackets.clear();
    }

    /// A statement with an error found here is not parsed: its first error is the one that helps.
    fn error(&mut self, diagnostic: Diagnostic) {
        self.broken = true;
        self.pieces.diagnostics.push(diagnostic);
    }

    fn finish(&mut self) {
        if let (Some(start), false) = (self.start.take(), self.broken) {
            self.pieces.statements.push(Span::new(start, self.end));
        }
        self.broken = false;
        self.brackets.clear();
    }
}
