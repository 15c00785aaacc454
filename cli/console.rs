//! Standard output for results, standard error for messages about them.
//!
//! Text from files (captions, names, error messages) can hold anything, so control characters are
//! escaped here; only the colors that this module adds reach the terminal. A closed pipe, as in
//! `blip log | head`, is not an error: the remaining output is dropped.

use std::borrow::Cow;
use std::env;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The meaning of a piece of text, shown as a color on terminals that have colors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Plain,
    /// The subject of a line.
    Strong,
    /// Less important.
    Dim,
    Good,
    Warn,
    Bad,
}

impl Style {
    /// The parameter of the ANSI escape sequence `ESC [ .. m`; empty for none.
    fn sgr(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Strong => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
        }
    }
}

/// Standard output, buffered, and standard error, unbuffered.
#[derive(Debug)]
pub(crate) struct Console {
    out: BufWriter<Stdout>,
    error: FirstError,
    pub(crate) color_out: bool,
    pub(crate) color_err: bool,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self {
            out: BufWriter::new(io::stdout()),
            error: FirstError::default(),
            color_out: use_color(&io::stdout()),
            color_err: use_color(&io::stderr()),
        }
    }

    /// Prints a line on standard output, escaped.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        self.print(&format!("{}\n", escape(text.as_ref())));
    }

    /// Prints a line of styled pieces on standard output, escaped.
    pub(crate) fn styled(&mut self, pieces: &[(&str, Style)]) {
        let line: String = pieces
            .iter()
            .map(|(text, style)| paint(text, *style, self.color_out))
            .collect();
        self.print(&format!("{}\n", line.trim_end()));
    }

    /// Prints a value on a line of standard output.
    pub(crate) fn json(&mut self, value: &impl Serialize) {
        self.print(&json_line(value));
    }

    /// Prints on standard output without escaping: for text that is safe already.
    pub(crate) fn print(&mut self, text: &str) {
        let out = &mut self.out;
        self.error.attempt(|| out.write_all(text.as_bytes()));
    }

    /// Writes the buffer out. False once standard output takes nothing any more.
    pub(crate) fn flush(&mut self) -> bool {
        let out = &mut self.out;
        self.error.attempt(|| out.flush())
    }

    /// The error of this output, for another writer to it.
    pub(crate) fn first_error(&self) -> FirstError {
        self.error.clone()
    }

    /// Prints a line on standard error, escaped.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        self.print_err(&format!("{}\n", escape(text.as_ref())));
    }

    /// Prints on standard error without escaping. Flushes standard output first, so that both
    /// appear in order on a terminal.
    pub(crate) fn print_err(&mut self, text: &str) {
        self.flush();
        write_stderr(text);
    }

    /// Flushes and closes.
    ///
    /// # Errors
    /// The first error of a write to standard output, except a closed pipe.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush();
        let error = self.error.lock().take();
        match error {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

/// The first error of a write to standard output, after which nothing is written.
#[derive(Clone, Default, Debug)]
pub(crate) struct FirstError(Arc<Mutex<Option<io::Error>>>);

impl FirstError {
    fn lock(&self) -> MutexGuard<'_, Option<io::Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, unless an earlier write failed. Says whether none did so far.
    pub(crate) fn attempt(&self, write: impl FnOnce() -> io::Result<()>) -> bool {
        let mut error = self.lock();
        if error.is_none() {
            *error = write().err();
        }
        error.is_none()
    }
}

/// A value as a line of JSON, in which characters that a terminal acts upon are escaped.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("what is printed is plain data");
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if needs_escape(c) {
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// Writes to standard error. A failing write has nowhere to be reported, so it is ignored.
pub(crate) fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn use_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !no_color() && !is_dumb_terminal()
}

/// Whether the user disabled colors: <https://no-color.org>.
pub(crate) fn no_color() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether the terminal can neither show colors nor move its cursor.
pub(crate) fn is_dumb_terminal() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The text in its style, escaped.
pub(crate) fn paint(text: &str, style: Style, color: bool) -> String {
    let text = escape(text);
    let sgr = style.sgr();
    if color && !sgr.is_empty() && !text.is_empty() {
        format!("\u{1b}[{sgr}m{text}\u{1b}[0m")
    } else {
        text.into_owned()
    }
}

/// Escapes control characters and characters that reorder text, such as U+202E. Line breaks and
/// tabs stay.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if needs_escape(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn needs_escape(c: char) -> bool {
    let reorders = matches!(
        c,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    reorders || (c.is_control() && c != '\n' && c != '\t')
}

/// [`escape`], with line breaks and tabs escaped too.
pub(crate) fn escape_line(text: &str) -> String {
    escape(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(escape("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(escape("two\nlines\tand a tab"), "two\nlines\tand a tab");
        assert_eq!(escape_line("two\nlines"), "two\\nlines");
    }

    #[test]
    fn json_stays_json() {
        let line = json_line(&"a\u{202e}\u{9b}\u{1b}\n");
        assert_eq!(line, "\"a\\u202e\\u009b\\u001b\\n\"\n");
        let read: String = serde_json::from_str(&line).unwrap();
        assert_eq!(read, "a\u{202e}\u{9b}\u{1b}\n");
    }

    #[test]
    fn only_added_colors_reach_the_terminal() {
        assert_eq!(
            paint("\u{1b}[5mx", Style::Bad, true),
            "\u{1b}[31m\\u{1b}[5mx\u{1b}[0m"
        );
        assert_eq!(paint("x", Style::Bad, false), "x");
    }
}
