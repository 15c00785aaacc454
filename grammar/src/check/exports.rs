//! Exports: which results are written outside the cache, in which format, and where.

use std::collections::BTreeMap;

use super::Checker;
use super::stages::NameScope;
use super::typed::{InferredType, TypedValue, is_of_type};
use super::wording::{alternatives, with_article};
use crate::ast::{Expr, Name, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::{Export, StageId, Value};
use crate::signature::ExportFormat;
use crate::span::Span;
use crate::types::Type;

impl<'a> Checker<'a> {
    /// Checks all exports.
    pub(super) fn check_exports(&mut self) {
        let file = self.file;
        // The paths of the exports so far, normalized.
        let mut paths: BTreeMap<String, Span> = BTreeMap::new();
        for statement in &file.statements {
            let StatementKind::Export { name, format, path } = &statement.kind else {
                continue;
            };
            // All three are checked before the first failed one ends it, to report all errors.
            let typed = self.name(name.text, name.span, NameScope::unnamed());
            let format = self.export_format(format);
            let path = self.export_path(path, &mut paths);
            let (Some(typed), Some(format)) = (typed, format) else {
                continue;
            };
            let stage = self.exported_stage(&typed, format, name);
            let (Some(stage), Some(path)) = (stage, path) else {
                continue;
            };
            self.exports.push(Export {
                name: name.text.to_owned(),
                stage,
                format: format.name,
                path,
                span: statement.span,
            });
        }
    }

    fn export_format(&mut self, format: &Name) -> Option<&'a ExportFormat> {
        let signatures = self.signatures;
        let known = signatures.format(format.text);
        if known.is_none() {
            let names: Vec<&str> = signatures.formats().map(|format| format.name).collect();
            let help = match self.nearest(format.text, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the formats are {}", names.join(", ")),
            };
            let message = format!("unknown export format `{}`", format.text);
            let diagnostic = Diagnostic::error(codes::UNKNOWN_FORMAT, message);
            self.report(diagnostic.at(format.span, "used here").help(help));
        }
        known
    }

    /// Evaluates the path of an export and reports an empty one and one that is in `paths` already.
    fn export_path(&mut self, path: &Expr, paths: &mut BTreeMap<String, Span>) -> Option<String> {
        let typed = self.expr(path, NameScope::unnamed())?;
        let Some(Value::Path(text)) = self.coerce(&typed, Type::Path, path, &"an export") else {
            return None;
        };
        if text.is_empty() {
            let diagnostic = Diagnostic::error(codes::EXPORT_PATH, "the export path is empty")
                .at(path.span, "empty path")
                .help(
                    "write a path relative to the workflow's folder, such as \"out/result.json\"",
                );
            self.report(diagnostic);
            return None;
        }
        if let Some(first) = paths.insert(normalize(&text), path.span) {
            let message = format!("two exports have the path {}", Value::Path(text));
            let diagnostic = Diagnostic::error(codes::EXPORT_PATH, message)
                .at(path.span, "used again here")
                .note(first, "first used here")
                .help("give each export its own path");
            self.report(diagnostic);
            return None;
        }
        Some(text)
    }

    /// The stage whose result is exported, if it is one that `format` accepts.
    fn exported_stage(
        &mut self,
        typed: &TypedValue,
        format: &ExportFormat,
        name: &Name,
    ) -> Option<StageId> {
        let TypedValue { value, ty } = typed;
        if let Value::Stage(stage) = value
            && accepts(format, ty)
        {
            return Some(*stage);
        }
        let accepted = format.accepts.iter().map(|ty| with_article(*ty));
        let accepted = alternatives(accepted).unwrap_or_default();
        let formats = self.signatures.formats();
        let suitable = formats.filter(|format| accepts(format, ty));
        let suitable = alternatives(suitable.map(|format| format!("`{}`", format.name)));
        let help = match suitable {
            Some(formats) if matches!(value, Value::Stage(_)) => {
                format!("{} takes {accepted}; use {formats} for {ty}", format.name)
            }
            _ => format!("{} takes {accepted}", format.name),
        };
        let message = format!("{ty} cannot be exported as {}", format.name);
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
            .at(name.span, format!("this is {ty}"))
            .help(help);
        self.report(diagnostic);
        None
    }
}

fn accepts(format: &ExportFormat, ty: &InferredType) -> bool {
    let InferredType::One(ty) = ty else {
        return false;
    };
    format
        .accepts
        .iter()
        .any(|accepted| is_of_type(*ty, *accepted))
}

/// A path without empty and `.` components, so that `out/x`, `./out//x` and `out/x/` are the same.
fn normalize(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
