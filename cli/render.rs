//! Diagnostics: with an excerpt for people, on one line for editors, as JSON for programs.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use blip_grammar::{Diagnostic, Severity, Source, Span};
use serde_json::{Value, json};

use crate::console::{escape, escape_line};
use crate::error::ErrorMessage;

/// EventLines wider than this are shown only around what is marked.
const WIDTH: usize = 140;

fn renderer(color: bool) -> Renderer {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.hyperlink(false).term_width(WIDTH)
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    }
}

/// All diagnostics of a file, in order.
pub(crate) fn diagnostics(diagnostics: &[Diagnostic], source: &Source, color: bool) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text += &excerpt(diagnostic, source, color);
        text += "\n\n";
    }
    text
}

/// A diagnostic with an excerpt of its source, as rustc renders it.
fn excerpt(diagnostic: &Diagnostic, source: &Source, color: bool) -> String {
    let group = title(diagnostic);
    let mut group = match diagnostic.span {
        Some(span) => group.element(snippet(diagnostic, span, source)),
        None => group.element(Origin::path(escape_line(source.name()))),
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(escape(help)));
    }
    renderer(color).render(&[group])
}

fn title(diagnostic: &Diagnostic) -> Group<'_> {
    let title = level(diagnostic.severity)
        .primary_title(escape_line(&diagnostic.message))
        .id(diagnostic.code.to_string());
    Group::with_title(title)
}

/// The lines from the first to the last span of a diagnostic, annotated.
fn snippet<'a>(
    diagnostic: &'a Diagnostic,
    span: Span,
    source: &'a Source,
) -> Snippet<'a, Annotation<'a>> {
    let spans = diagnostic.notes.iter().map(|(span, _)| *span);
    let lines = whole_lines(source, spans.fold(span, Span::to));
    let relative = |span: Span| span.start() - lines.start()..span.end() - lines.start();
    let primary = AnnotationKind::Primary
        .span(relative(span))
        .label(diagnostic.label.as_str());
    let context = diagnostic.notes.iter().map(|(span, note)| {
        AnnotationKind::Context
            .span(relative(*span))
            .label(note.as_str())
    });
    Snippet::source(source.slice(lines))
        .path(escape_line(source.name()))
        .line_start(source.position(lines.start()).line)
        .annotation(primary)
        .annotations(context)
}

/// A span extended to whole lines.
fn whole_lines(source: &Source, span: Span) -> Span {
    let text = source.text();
    let before = text.get(..span.start()).unwrap_or("");
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    // A span that ends just behind a line break belongs to the line before it.
    let last = span.end().max(span.start());
    let end = text
        .get(last..)
        .and_then(|rest| rest.find('\n'))
        .map_or(text.len(), |at| last + at);
    Span::new(start, end)
}

/// A diagnostic of a file that is not source text.
pub(crate) fn without_source(diagnostic: &Diagnostic, name: &str, color: bool) -> String {
    let mut group = title(diagnostic).element(Origin::path(escape_line(name)));
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(escape(help)));
    }
    renderer(color).render(&[group]) + "\n"
}

/// An error that is not about source text, in the layout of diagnostics.
pub(crate) fn error_message(error: &ErrorMessage, color: bool) -> String {
    let title = Level::ERROR.primary_title(escape_line(&error.message));
    let group = Group::with_title(title).element(Level::HELP.message(escape(&error.help)));
    renderer(color).render(&[group]) + "\n"
}

/// A diagnostic on one line: `file:line:column: error[E020]: message (help)`.
pub(crate) fn short(diagnostic: &Diagnostic, source: &Source) -> String {
    let position = diagnostic.span.map_or(String::new(), |span| {
        let start = source.position(span.start());
        format!("{}:{}:", start.line, start.column)
    });
    let help = diagnostic
        .help
        .as_ref()
        .map_or(String::new(), |help| format!(" ({help})"));
    let name = source.name();
    escape_line(&format!("{name}:{position} {diagnostic}{help}"))
}

/// A diagnostic as a JSON object. Lines and columns count from 1, offsets are bytes from 0.
pub(crate) fn json(diagnostic: &Diagnostic, name: &str, source: Option<&Source>) -> Value {
    let notes: Vec<Value> = diagnostic
        .notes
        .iter()
        .map(|(span, text)| json!({ "span": span_json(*span, source), "text": text }))
        .collect();
    json!({
        "file": name,
        "severity": diagnostic.severity.to_string(),
        "code": diagnostic.code.to_string(),
        "message": diagnostic.message,
        "span": diagnostic.span.map(|span| span_json(span, source)),
        "label": diagnostic.label,
        "notes": notes,
        "help": diagnostic.help,
    })
}

fn span_json(span: Span, source: Option<&Source>) -> Value {
    json!({
        "start": position_json(span.start(), source),
        "end": position_json(span.end(), source),
    })
}

fn position_json(offset: usize, source: Option<&Source>) -> Value {
    let position = source.map(|source| source.position(offset));
    json!({
        "offset": offset,
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
    })
}
