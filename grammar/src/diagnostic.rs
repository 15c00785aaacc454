//! A diagnostic as plain data: what is wrong, where, why, and what to do. Rendering it with an
//! excerpt of the source is left to the caller.

use std::fmt;

use crate::codes::{self, Code};
use crate::source::Source;
use crate::span::Span;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The workflow cannot run.
    Error,
    /// The workflow runs, but probably not as meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One message about a workflow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The entry in [`codes`](crate::codes) that explains this kind of message.
    pub code: Code,
    /// What is wrong, understandable without the source text.
    pub message: String,
    /// Where; `None` when it is not in the text, as with an override from the command line.
    pub span: Option<Span>,
    /// Why, to be written beside the marked text; may be empty.
    pub label: String,
    /// Related places, each with a word on why.
    pub notes: Vec<(Span, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a span yet.
    pub fn error(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            span: None,
            label: String::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// A warning without a span yet.
    pub fn warning(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(code, message)
        }
    }

    /// Sets the span, with the label to write beside it.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.span = Some(span);
        self.label = label.into();
        self
    }

    /// Adds a related place.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.notes.push((span, text.into()));
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Whether this keeps the workflow from running.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The compact form, without an excerpt of the source:
    ///
    /// ```text
    /// demo.blip:7:9: error[E020]: unknown name `captionr`
    ///   help: did you mean `captioner`?
    /// ```
    pub fn display<'a>(&'a self, source: &'a Source) -> impl fmt::Display + 'a {
        Compact {
            diagnostic: self,
            source,
        }
    }
}

/// Without its source, a diagnostic prints as its severity, code and message.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.code, self.message)
    }
}

impl std::error::Error for Diagnostic {}

struct Compact<'a> {
    diagnostic: &'a Diagnostic,
    source: &'a Source,
}

impl fmt::Display for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compact { diagnostic, source } = self;
        write!(f, "{}:", source.name())?;
        if let Some(span) = diagnostic.span {
            let at = source.position(span.start());
            write!(f, "{}:{}:", at.line, at.column)?;
        }
        write!(
            f,
            " {}[{}]: {}",
            diagnostic.severity, diagnostic.code, diagnostic.message
        )?;
        if !diagnostic.label.is_empty() {
            write!(f, "\n  here: {}", diagnostic.label)?;
        }
        for (span, text) in &diagnostic.notes {
            let at = source.position(span.start());
            write!(f, "\n  {}:{}: {text}", at.line, at.column)?;
        }
        match &diagnostic.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// At most so many diagnostics of a file are shown; one more, [`codes::TOO_MANY`], stands for the
/// rest.
pub(crate) const SHOWN_MAX: usize = 99;

/// Keeps the first [`SHOWN_MAX`] diagnostics, errors in preference to warnings, and adds how many
/// more there are, including the `dropped` ones that were never collected.
pub(crate) fn shorten(diagnostics: &mut Vec<Diagnostic>, dropped: usize) {
    let more = dropped + diagnostics.len().saturating_sub(SHOWN_MAX);
    if more == 0 {
        return;
    }
    let any_error = diagnostics.iter().any(Diagnostic::is_error);
    diagnostics.sort_by_key(|diagnostic| !diagnostic.is_error());
    diagnostics.truncate(SHOWN_MAX);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    let message = format!("{more} more messages are not shown");
    let last = if any_error {
        Diagnostic::error(codes::TOO_MANY, message)
    } else {
        Diagnostic::warning(codes::TOO_MANY, message)
    };
    diagnostics.push(last.help("fix the first ones, then check again"));
}
