//! A source text with its name, and the line and column of every byte in it.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// The longest text accepted, in bytes. A workflow is written by hand; a larger file is not one.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;

/// A workflow's text: UTF-8, at most [`SOURCE_BYTES_MAX`] long and free of NUL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

/// A line and a column as an editor shows them: both count from 1, columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Source {
    /// A text under the `name` that diagnostics show. A byte order mark at the start is dropped.
    ///
    /// # Errors
    /// E001 for a text over [`SOURCE_BYTES_MAX`], E003 for one that contains NUL.
    pub fn new(
        name: impl Into<String>,
        text: impl Into<String>,
    ) -> Result<Source, Box<Diagnostic>> {
        let mut text = text.into();
        check_size(text.len())?;
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let newlines = text.match_indices('\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1));
        let source = Source {
            name: name.into(),
            line_starts: line_starts.collect(),
            text,
        };
        match source.text.find('\0') {
            Some(offset) => Err(nul(source.position(offset))),
            None => Ok(source),
        }
    }

    /// [`Source::new`] for the bytes of a file.
    ///
    /// # Errors
    /// Those of [`Source::new`], and E002 for bytes that are not UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Source, Box<Diagnostic>> {
        check_size(bytes.len())?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let (valid, invalid) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let newlines = valid.iter().filter(|byte| **byte == b'\n');
            not_utf8(1 + newlines.count(), invalid[0])
        })?;
        Source::new(name, text)
    }

    /// The name given to [`Source::new`], usually a path.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of `span`; empty if `span` is not a range of this source.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start()..span.end()).unwrap_or("")
    }

    /// The line and column of a byte; a byte past the end counts as the end.
    pub fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let before = self
            .text
            .get(start..offset.min(self.text.len()))
            .unwrap_or("");
        Position {
            line,
            column: before.chars().count() + 1,
        }
    }
}

fn check_size(bytes: usize) -> Result<(), Box<Diagnostic>> {
    if bytes <= SOURCE_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("the file has {bytes} bytes; a workflow may have at most {SOURCE_BYTES_MAX}");
    Err(Box::new(
        Diagnostic::error(codes::SOURCE_TOO_LARGE, message).help(
            "check that this is the workflow and not a data file; long lists belong in files that \
                   an op reads",
        ),
    ))
}

fn nul(at: Position) -> Box<Diagnostic> {
    let message = format!(
        "the file contains a NUL character at line {}, column {}",
        at.line, at.column
    );
    Box::new(
        Diagnostic::error(codes::CONTROL_CHARACTER, message)
            .help("save the file as UTF-8; UTF-16 text and binary files contain such characters"),
    )
}

fn not_utf8(line: usize, byte: u8) -> Box<Diagnostic> {
    let message =
        format!("the file is not valid UTF-8: line {line} contains the byte 0x{byte:02x}");
    Box::new(Diagnostic::error(codes::NOT_UTF8, message).help("save the file as UTF-8"))
}
