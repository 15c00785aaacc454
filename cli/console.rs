//! Where everything is printed: standard output for what was asked for, standard error for what is
//! said about it.
//!
//! Texts from files (captions, names, error messages) can hold anything, so all control characters
//! in them are made visible here; only colours that this file adds reach the terminal. A reader
//! that goes away, as in `blip log | head`, is no fault: what would still be printed is dropped.

use std::borrow::Cow;
use std::env;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// How a piece of text looks on a terminal that has colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// The thing a line is about.
    Strong,
    /// Less important.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
}

/// Standard output and standard error.
#[derive(Debug)]
pub(crate) struct Console {
    out: BufWriter<Stdout>,
    /// Why standard output takes nothing any more.
    broken: Option<io::Error>,
    pub(crate) color_out: bool,
    pub(crate) color_err: bool,
}

impl Console {
    /// The console of this process.
    pub(crate) fn new() -> Self {
        Self {
            out: BufWriter::new(io::stdout()),
            broken: None,
            color_out: color(&io::stdout()),
            color_err: color(&io::stderr()),
        }
    }

    /// Prints a line on standard output.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        self.print(&format!("{}\n", visible(text.as_ref())));
    }

    /// Prints a line of differently styled pieces on standard output.
    pub(crate) fn pieces(&mut self, pieces: &[(&str, Style)]) {
        let line: String = pieces
            .iter()
            .map(|(text, style)| paint(text, *style, self.color_out))
            .collect();
        self.print(&format!("{}\n", line.trim_end()));
    }

    /// Prints text on standard output as it is: for texts that are safe already.
    pub(crate) fn print(&mut self, text: &str) {
        if self.broken.is_none() {
            self.broken = self.out.write_all(text.as_bytes()).err();
        }
    }

    /// Makes everything printed so far appear. Whether somebody is still reading.
    pub(crate) fn flush(&mut self) -> bool {
        if self.broken.is_none() {
            self.broken = self.out.flush().err();
        }
        self.broken.is_none()
    }

    /// Says something on standard error.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        self.print_err(&format!("{}\n", visible(text.as_ref())));
    }

    /// Prints text on standard error as it is, after everything that was printed before.
    pub(crate) fn print_err(&mut self, text: &str) {
        self.flush();
        say(text);
    }

    /// Ends the output.
    ///
    /// # Errors
    /// What writing gave, except that nobody reads it any more.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush();
        match self.broken.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

/// Prints on standard error. When nobody reads it there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether a stream is a terminal that wants colours.
fn color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !no_color() && !dumb()
}

/// Whether the user wants plain text: <https://no-color.org>.
pub(crate) fn no_color() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether the terminal can only print lines.
pub(crate) fn dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The text with its style, safe to print.
pub(crate) fn paint(text: &str, style: Style, color: bool) -> String {
    let code = match style {
        Style::Strong => "1",
        Style::Dim => "2",
        Style::Good => "32",
        Style::Warn => "33",
        Style::Bad => "31",
        Style::Plain => "",
    };
    let text = visible(text);
    if color && !code.is_empty() && !text.is_empty() {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.into_owned()
    }
}

/// The text with control characters, and characters that reorder text, written as escapes. Line
/// ends and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            shown.extend(c.escape_unicode())
        } else {
            shown.push(c)
        }
    }
    Cow::Owned(shown)
}

/// The same for a text that has to stay on one line.
pub(crate) fn visible_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(visible("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(visible("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(visible("two\nlines\tand a tab"), "two\nlines\tand a tab");
        assert_eq!(visible_line("two\nlines"), "two\\nlines");
    }

    #[test]
    fn only_our_own_colours_remain() {
        assert_eq!(
            paint("\u{1b}[5mx", Style::Bad, true),
            "\u{1b}[31m\\u{1b}[5mx\u{1b}[0m"
        );
        assert_eq!(paint("x", Style::Bad, false), "x");
    }
}
