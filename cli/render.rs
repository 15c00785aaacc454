//! Diagnostics as text: with an excerpt for people, on one line for editors, as JSON for programs.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use blip_grammar::{Diagnostic, Severity, Source, Span};
use serde_json::{Value, json};

use crate::console::{visible, visible_line};
use crate::failure::Fault;

/// Lines wider than this are shown only around what is marked.
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

/// All diagnostics of a file, one below the other.
pub(crate) fn diagnostics(diagnostics: &[Diagnostic], source: &Source, color: bool) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text += &excerpt(diagnostic, source, color);
        text += "\n\n";
    }
    text
}

/// A diagnostic with the lines it is about.
fn excerpt(diagnostic: &Diagnostic, source: &Source, color: bool) -> String {
    let code = diagnostic.code.to_string();
    let title = level(diagnostic.severity)
        .primary_title(one_line(&diagnostic.message))
        .id(code);
    let mut group = Group::with_title(title);
    if let Some(span) = diagnostic.span {
        let all = diagnostic
            .notes
            .iter()
            .fold(span, |all, (span, _)| all.to(*span));
        let lines = lines_of(source, all);
        let within = |span: Span| span.start() - lines.start()..span.end() - lines.start();
        let mut snippet = Snippet::source(source.slice(lines))
            .path(source.name())
            .line_start(source.position(lines.start()).line)
            .annotation(
                AnnotationKind::Primary
                    .span(within(span))
                    .label(diagnostic.label.as_str()),
            );
        for (span, note) in &diagnostic.notes {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(within(*span))
                    .label(note.as_str()),
            );
        }
        group = group.element(snippet);
    } else {
        group = group.element(Origin::path(source.name()));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(visible(help)));
    }
    renderer(color).render(&[group])
}

/// The whole lines that a span touches.
fn lines_of(source: &Source, span: Span) -> Span {
    let text = source.text();
    let before = text.get(..span.start()).unwrap_or("");
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    // A span that ends behind a line's end belongs to that line.
    let last = span.end().max(span.start());
    let end = text
        .get(last..)
        .and_then(|rest| rest.find('\n'))
        .map_or(text.len(), |at| last + at);
    Span::new(start, end)
}

/// A diagnostic of a file that is no source text.
pub(crate) fn without_source(diagnostic: &Diagnostic, name: &str, color: bool) -> String {
    let title = level(diagnostic.severity)
        .primary_title(one_line(&diagnostic.message))
        .id(diagnostic.code.to_string());
    let mut group = Group::with_title(title).element(Origin::path(name));
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(visible(help)));
    }
    renderer(color).render(&[group]) + "\n"
}

/// A fault of the command line, a file or the cache, in the same layout.
pub(crate) fn fault(fault: &Fault, color: bool) -> String {
    let title = Level::ERROR.primary_title(one_line(&fault.what));
    let group = Group::with_title(title).element(Level::HELP.message(visible(&fault.help)));
    renderer(color).render(&[group]) + "\n"
}

/// Titles are passed on to a renderer that would drop what it cannot show.
fn one_line(text: &str) -> String {
    visible_line(text)
}

/// A diagnostic on one line: `file:line:column: error[E020]: message (help)`.
pub(crate) fn short(diagnostic: &Diagnostic, source: &Source) -> String {
    let place = diagnostic.span.map_or(String::new(), |span| {
        let at = source.position(span.start());
        format!("{}:{}:", at.line, at.column)
    });
    let help = diagnostic
        .help
        .as_ref()
        .map_or(String::new(), |help| format!(" ({help})"));
    let name = source.name();
    visible_line(&format!("{name}:{place} {diagnostic}{help}"))
}

/// A diagnostic as a JSON object. Lines and columns count from 1, offsets are bytes.
pub(crate) fn json(diagnostic: &Diagnostic, name: &str, source: Option<&Source>) -> Value {
    let place = |offset: usize| {
        let at = source.map(|source| source.position(offset));
        json!({ "offset": offset, "line": at.map(|at| at.line), "column": at.map(|at| at.column) })
    };
    let span = |span: &Span| json!({ "start": place(span.start()), "end": place(span.end()) });
    let notes: Vec<Value> = diagnostic
        .notes
        .iter()
        .map(|(at, text)| json!({ "span": span(at), "text": text }))
        .collect();
    json!({
        "file": name,
        "severity": diagnostic.severity.to_string(),
        "code": diagnostic.code.to_string(),
        "message": diagnostic.message,
        "span": diagnostic.span.as_ref().map(span),
        "label": diagnostic.label,
        "notes": notes,
        "help": diagnostic.help,
    })
}
