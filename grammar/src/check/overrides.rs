//! Overrides: values of params from outside the file. Their errors have no span: the messages name
//! the override instead.

use super::ranges::first_outside;
use super::typed::{TypedValue, literal};
use super::wording::{example_of, with_article};
use super::{Checker, ParamOverride};
use crate::ast::{Name, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::parser::parse_value;
use crate::program::Value;
use crate::tokens::is_hidden;
use crate::types::Type;

impl Checker<'_> {
    /// Stores the overrides of the file's params and reports all others.
    pub(super) fn take_overrides(&mut self, overrides: &[ParamOverride]) {
        let file = self.file;
        let params: Vec<&str> = file.statements.iter().filter_map(param_name).collect();
        for ParamOverride { name, value } in overrides {
            if params.contains(&name.as_str()) {
                let before = self.overrides.insert(name.clone(), value.clone());
                if before.is_some() {
                    let message = format!("the param `{name}` is set twice");
                    let diagnostic = Diagnostic::error(codes::BOUND_TWICE, message);
                    self.report(diagnostic.help("set it once"));
                }
            } else if !file.unparsed.iter().any(|unparsed| unparsed.text == name) {
                self.unknown_param(name, &params);
            }
        }
    }

    fn unknown_param(&mut self, name: &str, params: &[&str]) {
        let help = match self.nearest(name, params.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if params.is_empty() => "it has no params at all".to_owned(),
            None => format!("its params are {}", params.join(", ")),
        };
        let message = format!("the workflow has no param `{}`", shorten_line(name));
        self.report(Diagnostic::error(codes::UNKNOWN_PARAM, message).help(help));
    }

    /// The value of an override of a param of type `ty`.
    pub(super) fn override_value(
        &mut self,
        name: &Name,
        text: &str,
        ty: Type,
        range: Option<&(Value, Value)>,
    ) -> Option<Value> {
        let what = format!("the override `{}={}`", name.text, shorten_line(text));
        let Some(value) = typed_override(text, ty).and_then(|typed| typed.as_type(ty)) else {
            let message = format!("{what} is not {}", with_article(ty));
            let help = format!(
                "write its value as in a workflow: {}",
                example(name.text, ty)
            );
            self.report(Diagnostic::error(codes::TYPE_MISMATCH, message).help(help));
            return None;
        };
        if let Some((low, high)) = range
            && first_outside(&value, (low, high)).is_some()
        {
            let message = format!("{what} is out of range");
            let help = format!(
                "`{}` takes a value in {low}..{high}, both ends included",
                name.text
            );
            self.report(Diagnostic::error(codes::OUT_OF_RANGE, message).help(help));
            return None;
        }
        Some(value)
    }
}

fn param_name<'s>(statement: &'s Statement<'s>) -> Option<&'s str> {
    match &statement.kind {
        StatementKind::Param { name, .. } => Some(name.text),
        _ => None,
    }
}

/// The value of an override. Where a string or a path is expected, a text without quotes is one,
/// even if it could be read as some other value: `--set out=7`.
fn typed_override(text: &str, ty: Type) -> Option<TypedValue> {
    let typed = parse_value(text).and_then(|expr| literal(&expr));
    let is_quoted = matches!(&typed, Some(typed) if matches!(typed.value, Value::Str(_)));
    if matches!(ty, Type::Str | Type::Path) && !is_quoted {
        return Some(TypedValue::one(Value::Str(text.to_owned()), Type::Str));
    }
    typed
}

/// An override of a param of type `ty`, as one would write it in a shell: `--set seed=8`.
pub(super) fn example(param: &str, ty: Type) -> String {
    let value = example_of(ty);
    // The shell would take apart the brackets of a list.
    let quote = if matches!(ty, Type::List(_)) { "'" } else { "" };
    format!("--set {param}={quote}{value}{quote}")
}

/// A text from outside as a message can contain it: on one line, and not long.
fn shorten_line(text: &str) -> String {
    /// Enough to recognize it.
    const SHOWN_MAX: usize = 60;
    let cut = text.char_indices().nth(SHOWN_MAX);
    let end = cut.map_or(text.len(), |(at, _)| at);
    let mut shown = String::new();
    for c in text.get(..end).unwrap_or("").chars() {
        shown.push(if is_hidden(c) || c == '\n' { ' ' } else { c });
    }
    if end < text.len() {
        shown.push('…');
    }
    shown
}
