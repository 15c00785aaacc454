//! Params and the overrides that give them values from outside.

use std::cmp::Ordering;

use super::stages::Place;
use super::values::{Found, Typed, article, coerce, compare, literal, outside, sample};
use super::{Checker, ParamOverride, is_ordered};
use crate::ast::{Expr, Name, Statement, StatementKind, TypeName};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::parser::parse_value;
use crate::program::{ParamInfo, Value};
use crate::span::Span;
use crate::tokens::is_hidden;
use crate::types::{DECLARABLE, Type};

/// What types are called in other languages.
const ELSEWHERE: [(&str, &str); 13] = [
    ("integer", "int"),
    ("long", "int"),
    ("number", "float"),
    ("double", "float"),
    ("real", "float"),
    ("str", "string"),
    ("text", "string"),
    ("boolean", "bool"),
    ("file", "path"),
    ("folder", "path"),
    ("time", "duration"),
    ("bytes", "size"),
    ("memory", "size"),
];

/// What the statement of a param says.
struct Declared<'s> {
    name: &'s Name<'s>,
    ty: Type,
    default: Option<Value>,
    range: Option<(Value, Value)>,
}

impl Checker<'_> {
    /// Takes the overrides in.
    pub(super) fn overrides(&mut self, overrides: &[ParamOverride]) {
        let file = self.file;
        let params: Vec<&str> = file
            .statements
            .iter()
            .filter_map(param_name)
            .map(|name| name.text)
            .collect();
        for setting in overrides {
            let known = params.contains(&setting.name.as_str());
            if !known && file.lost.iter().any(|name| name.text == setting.name) {
                continue;
            }
            if !known {
                let message = format!("the workflow has no param `{}`", shown(&setting.name));
                let help = match self.nearest(&setting.name, params.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None if params.is_empty() => "it has no params at all".to_owned(),
                    None => format!("its params are {}", params.join(", ")),
                };
                self.report(Diagnostic::error(codes::UNKNOWN_PARAM, message).help(help));
            } else if self
                .overrides
                .insert(setting.name.clone(), setting.value.clone())
                .is_some()
            {
                let message = format!("the param `{}` is set twice", setting.name);
                self.report(Diagnostic::error(codes::BOUND_TWICE, message).help("set it once"));
            }
        }
    }

    /// The value of a param: the setting's if there is one, else the default.
    pub(super) fn param(&mut self, at: usize, statement: &Statement) -> Option<Typed> {
        let Declared {
            name,
            ty,
            default,
            range,
        } = self.declared(statement)?;
        let set = self.overrides.get(name.text).cloned();
        let value = match &set {
            Some(text) => self.setting(name, text, ty, range.as_ref())?,
            None => default.clone().or_else(|| {
                self.not_set(name, ty, range.as_ref());
                None
            })?,
        };
        let info = ParamInfo {
            name: name.text.to_owned(),
            ty,
            value: value.clone(),
            default,
            range,
            set: set.is_some(),
            doc: self.doc_of(statement),
            span: statement.span,
        };
        self.params.insert(at, info);
        let found = found_as(&value, ty);
        Some((value, found))
    }

    /// What a param's statement says, if it says nothing wrong.
    fn declared<'s>(&mut self, statement: &'s Statement) -> Option<Declared<'s>> {
        let StatementKind::Param {
            name,
            ty,
            default,
            range,
        } = &statement.kind
        else {
            return None;
        };
        let what = format!("the param `{}`", name.text);
        // Every part is looked at before one with a fault ends it.
        let declared = ty.as_ref().map(|ty| self.declared_type(ty));
        let typed = default.as_ref().map(|expr| self.plain(expr, name.text));
        let ends = range
            .as_deref()
            .map(|(low, high)| (self.plain(low, name.text), self.plain(high, name.text)));
        let ends = ends.map(|(low, high)| low.zip(high));
        if declared == Some(None) || typed == Some(None) || ends == Some(None) {
            return None;
        }
        let (typed, ends) = (typed.flatten(), ends.flatten());
        let ty = self.param_type(name, declared.flatten(), typed.as_ref(), ends.as_ref())?;
        let range = match ends.zip(range.as_ref()) {
            Some((ends, exprs)) => Some(self.range(ty, &ends, exprs, &what)?),
            None => None,
        };
        let default = match typed.zip(default.as_ref()) {
            Some((typed, expr)) => Some(self.default(&typed, ty, range.as_ref(), expr, &what)?),
            None => None,
        };
        Some(Declared {
            name,
            ty,
            default,
            range,
        })
    }

    fn default(
        &mut self,
        typed: &Typed,
        ty: Type,
        range: Option<&(Value, Value)>,
        expr: &Expr,
        what: &str,
    ) -> Option<Value> {
        let value = self.fit(typed, ty, expr, &what)?;
        if let Some((low, high)) = range
            && let Some(found) = outside(&value, (low, high))
        {
            let message = format!("the default {found} of {what} is out of its range");
            let diagnostic = Diagnostic::error(codes::OUT_OF_RANGE, message)
                .at(expr.span, format!("allowed is {low}..{high}"));
            self.report(
                diagnostic
                    .help("change the default or the range; both ends of a range are included"),
            );
            return None;
        }
        Some(value)
    }

    /// A value that is no stage and no config value, as that of a param has to be.
    fn plain(&mut self, expr: &Expr, param: &str) -> Option<Typed> {
        let typed = self.expr(expr, Place::value_of(param).inside())?;
        if is_plain(&typed.0) {
            return Some(typed);
        }
        let message = format!(
            "the param `{param}` is given {}, which cannot be set from outside",
            typed.1
        );
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
            .at(expr.span, format!("this is {}", typed.1));
        self.report(diagnostic.help(format!("a param is a number, a text, true or false, a duration, a size, or a list of one of these; bind it instead: `{param} = …`")));
        None
    }

    fn param_type(
        &mut self,
        name: &Name,
        declared: Option<Type>,
        default: Option<&Typed>,
        ends: Option<&(Typed, Typed)>,
    ) -> Option<Type> {
        if declared.is_some() {
            return declared;
        }
        let Some((_, found)) = default else {
            let message = format!("the param `{}` has neither a type nor a default", name.text);
            let help = format!(
                "write `param {} = value` or `param {}: type`",
                name.text, name.text
            );
            self.report(
                Diagnostic::error(codes::SYNTAX, message)
                    .at(name.span, "declared here")
                    .help(help),
            );
            return None;
        };
        let Some(ty) = found.declarable() else {
            let message = format!(
                "the type of the param `{}` does not follow from its default",
                name.text
            );
            let help = format!(
                "declare it, as in `param {}: [string] = []`; a list holds values of one type",
                name.text
            );
            let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
                .at(name.span, format!("the default is {found}"));
            self.report(diagnostic.help(help));
            return None;
        };
        // `param lr = 1 in 0.0..1.0` is a float, as its range says.
        let float =
            ends.is_some_and(|(low, high)| [&low.1, &high.1].contains(&&Found::One(Type::Float)));
        Some(match ty {
            Type::Int if float => Type::Float,
            Type::List(Type::Int) if float => Type::List(&Type::Float),
            ty => ty,
        })
    }

    fn range(
        &mut self,
        ty: Type,
        ends: &(Typed, Typed),
        exprs: &(Expr, Expr),
        what: &str,
    ) -> Option<(Value, Value)> {
        let (low, high) = exprs;
        let whole = low.span.to(high.span);
        if !is_ordered(ty) {
            let message = format!("{what} is {}, which has no range", article(ty));
            let diagnostic =
                Diagnostic::error(codes::TYPE_MISMATCH, message).at(whole, "this range");
            self.report(
                diagnostic.help("remove the range; only numbers, durations and sizes have one"),
            );
            return None;
        }
        let element = match ty {
            Type::List(element) => *element,
            ty => ty,
        };
        let place = format!("the range of {what}");
        let ends = (
            self.fit(&ends.0, element, low, &place),
            self.fit(&ends.1, element, high, &place),
        );
        let (low, high) = ends.0.zip(ends.1)?;
        if compare(&low, &high) == Some(Ordering::Greater) {
            let diagnostic =
                Diagnostic::error(codes::OUT_OF_RANGE, format!("the range of {what} is empty"))
                    .at(whole, format!("{low} is more than {high}"))
                    .help(format!("write the lower end first: {high}..{low}"));
            self.report(diagnostic);
            return None;
        }
        Some((low, high))
    }

    fn not_set(&mut self, name: &Name, ty: Type, range: Option<&(Value, Value)>) {
        let message = format!("the param `{}` has no value", name.text);
        let range = range.map_or_else(String::new, |(low, high)| format!(" in {low}..{high}"));
        let help = format!(
            "set it with --set {}={}, or give it a default",
            name.text,
            shell_sample(ty)
        );
        let diagnostic = Diagnostic::error(codes::PARAM_NOT_SET, message);
        self.report(
            diagnostic
                .at(
                    name.span,
                    format!("{}{range} without a default", article(ty)),
                )
                .help(help),
        );
    }

    /// The value that a setting gives. Its faults are not in the file: they name the setting.
    fn setting(
        &mut self,
        name: &Name,
        text: &str,
        ty: Type,
        range: Option<&(Value, Value)>,
    ) -> Option<Value> {
        let parsed = parse_value(text).and_then(|expr| literal(&expr));
        let bare = matches!(ty, Type::Str | Type::Path);
        let typed = match parsed {
            Some((value @ Value::Str(_), found)) => Some((value, found)),
            _ if bare => Some((Value::Str(text.to_owned()), Found::One(Type::Str))),
            other => other,
        };
        let setting = format!("the setting `{}={}`", name.text, shown(text));
        let Some(value) = typed.and_then(|(value, found)| coerce(&value, &found, ty)) else {
            let message = format!("{setting} is not {}", article(ty));
            let help = format!(
                "write its value as in a workflow: --set {}={}",
                name.text,
                shell_sample(ty)
            );
            self.report(Diagnostic::error(codes::TYPE_MISMATCH, message).help(help));
            return None;
        };
        if let Some((low, high)) = range
            && outside(&value, (low, high)).is_some()
        {
            let message = format!("{setting} is out of range");
            let help = format!(
                "`{}` takes a value in {low}..{high}, both ends included",
                name.text
            );
            self.report(Diagnostic::error(codes::OUT_OF_RANGE, message).help(help));
            return None;
        }
        Some(value)
    }

    fn declared_type(&mut self, ty: &TypeName) -> Option<Type> {
        let TypeName { word, list, span } = *ty;
        let found = DECLARABLE
            .iter()
            .find(|(known, ..)| *known == word)
            .map(|(_, one, many)| if list { *many } else { *one });
        if found.is_none() {
            let known: Vec<&str> = DECLARABLE.iter().map(|(word, ..)| *word).collect();
            let elsewhere = ELSEWHERE
                .iter()
                .find(|(theirs, _)| *theirs == word.to_ascii_lowercase())
                .map(|(_, ours)| *ours);
            let help = match elsewhere.or_else(|| self.nearest(word, known.iter().copied())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "the types of params are {}; in brackets, a list of them: [int]",
                    known.join(", ")
                ),
            };
            let diagnostic = Diagnostic::error(
                codes::UNKNOWN_TYPE,
                format!("there is no type `{word}` for params"),
            );
            self.report(diagnostic.at(span, "named here").help(help));
        }
        found
    }

    /// The comment behind a statement, or the comment lines right above it. Lines from the first of
    /// the file on are about the file.
    fn doc_of(&self, statement: &Statement) -> String {
        let comments = &self.file.comments;
        let line = |offset| self.source.position(offset).line;
        let text = |span: &Span| {
            self.source
                .slice(*span)
                .trim_start_matches('#')
                .trim()
                .to_owned()
        };
        let above = comments.partition_point(|span| span.start() < statement.span.start());
        let behind = comments.partition_point(|span| span.start() < statement.span.end());
        if let Some(behind) = comments
            .get(behind)
            .filter(|span| line(span.start()) == line(statement.span.end()))
        {
            return text(behind);
        }
        let mut lines = Vec::new();
        let mut next = line(statement.span.start());
        for span in comments.get(..above).unwrap_or(&[]).iter().rev() {
            let before = self.source.text().get(..span.start()).unwrap_or("");
            let alone = before.trim_end_matches([' ', '\t']).ends_with('\n')
                || before.trim_matches([' ', '\t']).is_empty();
            if line(span.start()) + 1 != next || !alone {
                break;
            }
            next -= 1;
            lines.push(text(span));
        }
        if next == 1 {
            return String::new();
        }
        lines.reverse();
        lines.join("\n")
    }
}

fn param_name<'s>(statement: &'s Statement<'s>) -> Option<&'s Name<'s>> {
    match &statement.kind {
        StatementKind::Param { name, .. } => Some(name),
        _ => None,
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::List(values) => values.iter().all(is_plain),
        Value::Stage(_) | Value::Config { .. } | Value::Absent => false,
        _ => true,
    }
}

/// The type of a value that was made to fit `ty`.
fn found_as(value: &Value, ty: Type) -> Found {
    match (value, ty) {
        (Value::List(values), Type::List(element)) => Found::List(
            values
                .iter()
                .map(|value| found_as(value, *element))
                .collect(),
        ),
        (_, ty) => Found::One(ty),
    }
}

/// A value of this type as one would write it for a shell.
fn shell_sample(ty: Type) -> String {
    match ty {
        Type::List(_) => format!("'{}'", sample(ty)),
        ty => sample(ty).to_owned(),
    }
}

/// A text from outside as a message can hold it: on one line, and not long.
fn shown(text: &str) -> String {
    /// Enough to know it again.
    const SHOWN: usize = 60;
    let cut = text
        .char_indices()
        .nth(SHOWN)
        .map_or(text.len(), |(at, _)| at);
    let shown: String = text
        .get(..cut)
        .unwrap_or("")
        .chars()
        .map(|c| if is_hidden(c) || c == '\n' { ' ' } else { c })
        .collect();
    if cut < text.len() {
        format!("{shown}…")
    } else {
        shown
    }
}
