//! Exports: what leaves the cache, in which format, and to where.

use std::collections::BTreeMap;

use super::Checker;
use super::stages::Place;
use super::values::{Found, alternatives, article, fits};
use crate::ast::{Expr, Name, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::{Export, StageId, Value};
use crate::signature::ExportFormat;
use crate::span::Span;
use crate::types::Type;

impl<'a> Checker<'a> {
    /// Checks all exports.
    pub(super) fn exports(&mut self) {
        let file = self.file;
        let mut paths: BTreeMap<String, Span> = BTreeMap::new();
        for statement in &file.statements {
            let StatementKind::Export { name, format, path } = &statement.kind else {
                continue;
            };
            // All three first, so that all faults are told.
            let typed = self.name(name.text, name.span, Place::value_of("").inside());
            let known = self.export_format(format);
            let to = self.export_path(path, &mut paths);
            let (Some((value, found)), Some(known)) = (typed, known) else {
                continue;
            };
            let (Some(stage), Some(path)) = (self.exportable(&value, &found, known, name), to)
            else {
                continue;
            };
            self.exported.push(stage);
            let export = Export {
                name: name.text.to_owned(),
                stage,
                format: known.name,
                path,
                span: statement.span,
            };
            self.exports.push(export);
        }
    }

    fn export_format(&mut self, format: &Name) -> Option<&'a ExportFormat> {
        let signatures = self.signatures;
        let known = signatures.format(format.text);
        if known.is_none() {
            let help = match self
                .nearest(format.text, signatures.formats().map(|format| format.name))
            {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    let names: Vec<&str> = signatures.formats().map(|format| format.name).collect();
                    format!("the formats are {}", names.join(", "))
                }
            };
            let message = format!("there is no export format `{}`", format.text);
            let diagnostic = Diagnostic::error(codes::UNKNOWN_FORMAT, message);
            self.report(diagnostic.at(format.span, "named here").help(help));
        }
        known
    }

    /// The path of an export, unless it is empty or another one's.
    fn export_path(&mut self, path: &Expr, paths: &mut BTreeMap<String, Span>) -> Option<String> {
        let typed = self.expr(path, Place::value_of("").inside())?;
        let Some(Value::Path(text)) = self.fit(&typed, Type::Path, path, &"an export") else {
            return None;
        };
        let fault = |message: &str| Diagnostic::error(codes::EXPORT_PATH, message);
        if text.is_empty() {
            let diagnostic = fault("the path of an export is empty").at(path.span, "this path");
            self.report(
                diagnostic.help(
                    "say where it goes, relative to the workflow's folder: \"out/result.json\"",
                ),
            );
            return None;
        }
        if let Some(first) = paths.insert(normal(&text), path.span) {
            let diagnostic = fault(&format!("two exports go to {}", Value::Path(text)))
                .at(path.span, "the second one");
            self.report(
                diagnostic
                    .note(first, "the first one")
                    .help("give each export a path of its own"),
            );
            return None;
        }
        Some(text)
    }

    fn exportable(
        &mut self,
        value: &Value,
        found: &Found,
        format: &ExportFormat,
        name: &Name,
    ) -> Option<StageId> {
        let accepted = |ty: Type| format.accepts.iter().any(|accepted| fits(ty, *accepted));
        match (value, found) {
            (Value::Stage(stage), Found::One(ty)) if accepted(*ty) => return Some(*stage),
            _ => {}
        }
        let message = format!("{found} cannot be exported as {}", format.name);
        let what = alternatives(format.accepts.iter().map(|ty| article(*ty))).unwrap_or_default();
        let signatures = self.signatures;
        let fitting = signatures.formats().filter(|format| match found {
            Found::One(ty) => format.accepts.iter().any(|accepted| fits(*ty, *accepted)),
            Found::List(_) => false,
        });
        let help = match alternatives(fitting.map(|format| format!("`{}`", format.name))) {
            Some(formats) if matches!(value, Value::Stage(_)) => {
                format!("{} takes {what}; {found} can go as {formats}", format.name)
            }
            _ => format!("{} takes {what}", format.name),
        };
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
            .at(name.span, format!("this is {found}"));
        self.report(diagnostic.help(help));
        None
    }
}

/// A path without what says nothing, so that `out/x`, `./out//x` and `out/x/` are found to be the
/// same.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
