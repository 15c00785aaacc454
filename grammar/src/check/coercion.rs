//! Coerces values to the type that is expected where they are used, and suggests what to write
//! instead of a value that cannot be.

use std::fmt;

use super::Checker;
use super::typed::{TypedValue, is_of_type, literal};
use super::wording::{alternatives, suggest_value, with_article};
use crate::ast::{Expr, ExprKind, Statement, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::parser::parse_value;
use crate::program::Value;
use crate::span::Span;
use crate::types::Type;

impl Checker<'_> {
    /// The value as one of type `ty`; if it cannot be, reports that. `receiver` is what takes the
    /// value, as the message calls it: "the argument `lr` of `pretrain`".
    pub(super) fn coerce(
        &mut self,
        typed: &TypedValue,
        ty: Type,
        expr: &Expr,
        receiver: &dyn fmt::Display,
    ) -> Option<Value> {
        if let Some(value) = typed.as_type(ty) {
            return Some(value);
        }
        // In a list that is written out, the values of the wrong type are reported by themselves.
        if let (ExprKind::List(exprs), Some(elements), Type::List(element)) =
            (&expr.kind, typed.elements(), ty)
        {
            let receiver = format_args!("each value of {receiver}");
            for (typed, expr) in elements.iter().zip(exprs) {
                self.coerce(typed, *element, expr, &receiver);
            }
            return None;
        }
        let receiver = receiver.to_string();
        let verb = if receiver.starts_with("each") {
            "is"
        } else {
            "takes"
        };
        let message = format!("{receiver} {verb} {}", with_article(ty));
        let label = match (&typed.value, ty) {
            (Value::Str(text), Type::Choice(_)) => format!("\"{text}\" is not one of them"),
            _ => format!("this is {}", typed.ty),
        };
        let help = self
            .suggest_conversion(typed, ty)
            .or_else(|| self.suggest_source(ty, expr.span))
            .unwrap_or_else(|| suggest_value(ty));
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message)
            .at(expr.span, label)
            .help(help);
        self.report(diagnostic);
        None
    }

    /// How to write the value so that it is of type `ty`.
    fn suggest_conversion(&mut self, typed: &TypedValue, ty: Type) -> Option<String> {
        Some(match (&typed.value, ty) {
            (_, Type::OneOf(types)) => {
                let mut types = types.iter();
                return types.find_map(|ty| self.suggest_conversion(typed, *ty));
            }
            (Value::Float(number), Type::Int) if number.fract() == 0.0 && number.abs() < 1e15 => {
                format!("write it as a whole number, {number}")
            }
            (Value::Float(_), Type::Int) => "write a whole number".to_owned(),
            (Value::Int(number), Type::Duration) => {
                format!("give it a unit, such as {number}s, {number}min or {number}h")
            }
            (Value::Float(_), Type::Duration) => {
                "give it a unit, such as 1.5s, 10min or 2h".to_owned()
            }
            (Value::Int(number), Type::Size) => {
                format!("give it a unit, such as {number}MiB or {number}GiB")
            }
            (Value::Float(_), Type::Size) => "give it a unit, such as 1.5GiB".to_owned(),
            (Value::Duration(_) | Value::Size(_), Type::Int | Type::Float) => {
                "write a number without a unit".to_owned()
            }
            (Value::Str(text), Type::Choice(words)) => {
                let near = self.nearest(text, words.iter().copied())?;
                format!("did you mean \"{near}\"?")
            }
            (
                Value::Str(text),
                Type::Int | Type::Float | Type::Bool | Type::Duration | Type::Size,
            ) if unquoted_is(text, ty) => format!("write it without quotes, {text}"),
            (Value::Int(_), Type::Bool) => "write true or false".to_owned(),
            (_, Type::List(element)) if typed.as_type(*element).is_some() => {
                "write it in brackets: [ … ]".to_owned()
            }
            (Value::List(_), Type::List(_)) => return None,
            (Value::List(_), _) => "give one value, not a list".to_owned(),
            _ => return None,
        })
    }

    /// Which bindings of the file and which ops give a value of this type, if it is one that only
    /// ops give. Bindings in the statement around `used_at` are left out: they would be a cycle.
    fn suggest_source(&self, ty: Type, used_at: Span) -> Option<String> {
        let is_named = match ty {
            Type::OneOf(types) => types.iter().all(|ty| matches!(ty, Type::Named(_))),
            ty => matches!(ty, Type::Named(_)),
        };
        if !is_named {
            return None;
        }
        let statements = self.file.statements.iter();
        let others = statements.filter(|other| !other.span.contains(used_at.start()));
        let bindings = others
            .filter_map(bound_call)
            .filter(|(_, op)| self.returns(op, ty))
            .map(|(name, _)| format!("`{name}`"));
        let ops = self
            .signatures
            .ops()
            .filter(|op| is_of_type(op.output, ty))
            .map(|op| format!("`{}(…)`", op.name));
        match (alternatives(bindings), alternatives(ops)) {
            (Some(names), Some(ops)) => Some(format!("use {names}, or make one with {ops}")),
            (Some(names), None) => Some(format!("use {names}")),
            (None, Some(ops)) => Some(format!("make one with {ops}")),
            (None, None) => None,
        }
    }

    fn returns(&self, op: &str, ty: Type) -> bool {
        let op = self.signatures.op(op);
        op.is_some_and(|op| is_of_type(op.output, ty))
    }
}

/// The name and the op of a statement `name = op(…)`.
fn bound_call<'s>(statement: &'s Statement) -> Option<(&'s str, &'s str)> {
    let StatementKind::Binding { name, value } = &statement.kind else {
        return None;
    };
    let ExprKind::Call { op, .. } = &value.kind else {
        return None;
    };
    Some((name.text, op.text))
}

/// Whether a string is a value of type `ty` once its quotes are removed.
fn unquoted_is(text: &str, ty: Type) -> bool {
    let value = parse_value(text).and_then(|expr| literal(&expr));
    value.is_some_and(|typed| typed.as_type(ty).is_some())
}
