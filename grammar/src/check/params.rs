//! Params: their types, defaults and ranges.

use std::cmp::Ordering;

use super::ranges::{compare, first_outside, is_ordered};
use super::stages::NameScope;
use super::typed::{InferredType, TypedValue};
use super::wording::with_article;
use super::{Checker, overrides};
use crate::ast::{Expr, Name, Statement, StatementKind, TypeName};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::{ParamInfo, Value};
use crate::span::Span;
use crate::types::{DECLARABLE, Type};

/// What types are called in other languages, and here.
const FOREIGN_TYPES: [(&str, &str); 13] = [
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

/// The declaration of a param, without errors.
struct Declared<'s> {
    name: &'s Name<'s>,
    ty: Type,
    default: Option<Value>,
    range: Option<(Value, Value)>,
}

impl Checker<'_> {
    /// Evaluates a param: its override, or else its default.
    pub(super) fn param(&mut self, at: usize, statement: &Statement) -> Option<TypedValue> {
        let Declared {
            name,
            ty,
            default,
            range,
        } = self.declaration(statement)?;
        let text = self.overrides.get(name.text).cloned();
        let value = match (&text, &default) {
            (Some(text), _) => self.override_value(name, text, ty, range.as_ref())?,
            (None, Some(default)) => default.clone(),
            (None, None) => {
                self.not_set(name, ty, range.as_ref());
                return None;
            }
        };
        let info = ParamInfo {
            name: name.text.to_owned(),
            ty,
            value: value.clone(),
            default,
            range,
            set: text.is_some(),
            doc: self.doc_of(statement),
            span: statement.span,
        };
        self.params.insert(at, info);
        Some(TypedValue::of_type(value, ty))
    }

    fn declaration<'s>(&mut self, statement: &'s Statement) -> Option<Declared<'s>> {
        let StatementKind::Param {
            name,
            ty,
            default,
            range,
        } = &statement.kind
        else {
            return None;
        };
        // All parts are evaluated before the first failed one ends it, to report all errors.
        let declared = ty.as_ref().map(|ty| self.declared_type(ty));
        let typed = default
            .as_ref()
            .map(|expr| self.param_value(expr, name.text));
        let ends = range.as_deref().map(|(low, high)| {
            let low = self.param_value(low, name.text);
            let high = self.param_value(high, name.text);
            low.zip(high)
        });
        if declared == Some(None) || typed == Some(None) || ends == Some(None) {
            return None;
        }
        let (typed, ends) = (typed.flatten(), ends.flatten());
        let ty = self.param_type(name, declared.flatten(), typed.as_ref(), ends.as_ref())?;
        let param = format!("the param `{}`", name.text);
        let range = match ends.zip(range.as_ref()) {
            Some((ends, exprs)) => Some(self.range(ty, &ends, exprs, &param)?),
            None => None,
        };
        let default = match typed.zip(default.as_ref()) {
            Some((typed, expr)) => Some(self.default(&typed, ty, range.as_ref(), expr, &param)?),
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
        typed: &TypedValue,
        ty: Type,
        range: Option<&(Value, Value)>,
        expr: &Expr,
        param: &str,
    ) -> Option<Value> {
        let value = self.coerce(typed, ty, expr, &param)?;
        if let Some((low, high)) = range
            && let Some(found) = first_outside(&value, (low, high))
        {
            let message = format!("the default {found} of {param} is out of range");
            let diagnostic = Diagnostic::error(codes::OUT_OF_RANGE, message)
                .at(expr.span, format!("the allowed range is {low}..{high}"))
                .help("change the default or the range; both ends of a range are included");
            self.report(diagnostic);
            return None;
        }
        Some(value)
    }

    /// Evaluates a default or an end of a range, which can be neither a stage nor a config value.
    fn param_value(&mut self, expr: &Expr, param: &str) -> Option<TypedValue> {
        let typed = self.expr(expr, NameScope::value_of(param).inside())?;
        if is_plain(&typed.value) {
            return Some(typed);
        }
        let ty = &typed.ty;
        let message = format!("the param `{param}` cannot be {ty}");
        let help = format!(
            "a param is a number, a string, true or false, a duration, a size, or a list of one of \
             these; use a binding instead: `{param} = …`"
        );
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
            .at(expr.span, format!("this is {ty}"))
            .help(help);
        self.report(diagnostic);
        None
    }

    /// The declared type of a param, or the one that follows from its default and its range.
    fn param_type(
        &mut self,
        name: &Name,
        declared: Option<Type>,
        default: Option<&TypedValue>,
        ends: Option<&(TypedValue, TypedValue)>,
    ) -> Option<Type> {
        if declared.is_some() {
            return declared;
        }
        let Some(default) = default else {
            self.no_type(name);
            return None;
        };
        let Some(ty) = default.ty.declarable() else {
            self.type_not_inferred(name, &default.ty);
            return None;
        };
        // `param lr = 1 in 0.0..1.0` is a float, as its range is.
        let float = InferredType::One(Type::Float);
        let float_range = ends.is_some_and(|(low, high)| low.ty == float || high.ty == float);
        Some(match ty {
            Type::Int if float_range => Type::Float,
            Type::List(Type::Int) if float_range => Type::List(&Type::Float),
            ty => ty,
        })
    }

    fn no_type(&mut self, name: &Name) {
        let Name { text, span } = *name;
        let message = format!("the param `{text}` has neither a type nor a default");
        let diagnostic = Diagnostic::error(codes::SYNTAX, message)
            .at(span, "declared here")
            .help(format!(
                "write `param {text} = value` or `param {text}: type`"
            ));
        self.report(diagnostic);
    }

    fn type_not_inferred(&mut self, name: &Name, default: &InferredType) {
        let Name { text, span } = *name;
        let message = format!("the type of the param `{text}` cannot be inferred from its default");
        let help = format!(
            "declare it, as in `param {text}: [string] = []`; a list has values of one type"
        );
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
            .at(span, format!("the default is {default}"))
            .help(help);
        self.report(diagnostic);
    }

    fn range(
        &mut self,
        ty: Type,
        (low, high): &(TypedValue, TypedValue),
        (low_expr, high_expr): &(Expr, Expr),
        param: &str,
    ) -> Option<(Value, Value)> {
        let span = low_expr.span.to(high_expr.span);
        if !is_ordered(ty) {
            let message = format!("{param} is {}, which has no range", with_article(ty));
            let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
                .at(span, "this range")
                .help("remove the range; only numbers, durations and sizes have one");
            self.report(diagnostic);
            return None;
        }
        // The range of a list applies to each of its values.
        let element = match ty {
            Type::List(element) => *element,
            ty => ty,
        };
        let range = format!("the range of {param}");
        let low = self.coerce(low, element, low_expr, &range);
        let high = self.coerce(high, element, high_expr, &range);
        let (low, high) = low.zip(high)?;
        if compare(&low, &high) == Some(Ordering::Greater) {
            let diagnostic = Diagnostic::error(codes::OUT_OF_RANGE, format!("{range} is empty"))
                .at(span, format!("{low} is greater than {high}"))
                .help(format!("write the lower end first: {high}..{low}"));
            self.report(diagnostic);
            return None;
        }
        Some((low, high))
    }

    fn not_set(&mut self, name: &Name, ty: Type, range: Option<&(Value, Value)>) {
        let Name { text, span } = *name;
        let range = range.map_or_else(String::new, |(low, high)| format!(" in {low}..{high}"));
        let example = overrides::example(text, ty);
        let diagnostic = Diagnostic::error(
            codes::PARAM_NOT_SET,
            format!("the param `{text}` has no value"),
        )
        .at(
            span,
            format!("{}{range} without a default", with_article(ty)),
        )
        .help(format!("set it with {example}, or give it a default"));
        self.report(diagnostic);
    }

    fn declared_type(&mut self, ty: &TypeName) -> Option<Type> {
        let TypeName { word, list, span } = *ty;
        let known = DECLARABLE.iter().find(|(known, ..)| *known == word);
        if let Some((_, one, list_of)) = known {
            return Some(if list { *list_of } else { *one });
        }
        let words = DECLARABLE.map(|(word, ..)| word);
        let lowercase = word.to_ascii_lowercase();
        let foreign = FOREIGN_TYPES.iter().find(|(name, _)| *name == lowercase);
        let near = match foreign {
            Some((_, near)) => Some(*near),
            None => self.nearest(word, words.into_iter()),
        };
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "the types of params are {}; in brackets, a list of them: [int]",
                words.join(", ")
            ),
        };
        let message = format!("unknown param type `{word}`");
        let diagnostic = Diagnostic::error(codes::UNKNOWN_TYPE, message);
        self.report(diagnostic.at(span, "used here").help(help));
        None
    }

    /// The documentation of a param: see [`ParamInfo::doc`].
    fn doc_of(&self, statement: &Statement) -> String {
        let comments = &self.file.comments;
        let after = comments.partition_point(|span| span.start() < statement.span.end());
        if let Some(trailing) = comments.get(after)
            && self.line(trailing.start()) == self.line(statement.span.end())
        {
            return self.comment_text(*trailing);
        }
        let above = comments.partition_point(|span| span.start() < statement.span.start());
        let mut lines = Vec::new();
        let mut next_line = self.line(statement.span.start());
        for span in comments.get(..above).unwrap_or(&[]).iter().rev() {
            let directly_above = self.line(span.start()) + 1 == next_line;
            if !directly_above || !self.is_alone_on_line(*span) {
                break;
            }
            next_line -= 1;
            lines.push(self.comment_text(*span));
        }
        // The comment at the top of a file is about the file, even right above a param.
        if next_line == 1 {
            return String::new();
        }
        lines.reverse();
        lines.join("\n")
    }

    fn line(&self, offset: usize) -> usize {
        self.source.position(offset).line
    }

    fn comment_text(&self, comment: Span) -> String {
        let text = self.source.slice(comment);
        text.trim_start_matches('#').trim().to_owned()
    }

    fn is_alone_on_line(&self, comment: Span) -> bool {
        let before = self.source.text().get(..comment.start()).unwrap_or("");
        let before = before.trim_end_matches([' ', '\t']);
        before.is_empty() || before.ends_with('\n')
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::List(values) => values.iter().all(is_plain),
        Value::Stage(_) | Value::Config { .. } | Value::Absent => false,
        _ => true,
    }
}
