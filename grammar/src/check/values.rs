//! Values and their types: literals, what fits where, ranges, and what to say when a value does not
//! fit.

use std::cmp::Ordering;
use std::fmt;

use super::Checker;
use crate::ast::{Expr, ExprKind, StatementKind};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::Value;
use crate::signature::{bound_text, range_text};
use crate::span::Span;
use crate::types::{DECLARABLE, Type};

/// A value with its type; what an expression comes to.
pub(super) type Typed = (Value, Found);

/// The type that a value was found to have. Lists keep the types of all their values: what they
/// come to depends on the place they stand in.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Found {
    One(Type),
    List(Vec<Found>),
}

impl Found {
    /// The declarable type of a value by itself: that of a param without a declared one. A list
    /// with an int among floats is one of floats.
    pub(super) fn declarable(&self) -> Option<Type> {
        match self {
            Found::One(ty) => DECLARABLE
                .iter()
                .find(|(_, one, _)| one == ty)
                .map(|(_, one, _)| *one),
            Found::List(values) => {
                let mut types = values.iter().map(|value| match value {
                    Found::One(ty) => Some(*ty),
                    Found::List(_) => None,
                });
                let first = types.next()??;
                let ty = types.try_fold(first, |known, next| match (known, next?) {
                    (known, next) if known == next => Some(known),
                    (Type::Int, Type::Float) | (Type::Float, Type::Int) => Some(Type::Float),
                    _ => None,
                })?;
                DECLARABLE
                    .iter()
                    .find(|(_, one, _)| *one == ty)
                    .map(|(.., many)| *many)
            }
        }
    }
}

/// As in "this is a list of ints".
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::One(ty) => write!(f, "{}", article(*ty)),
            Found::List(values) => {
                let mut kinds: Vec<String> = Vec::new();
                for value in values.iter().take(1000) {
                    let kind = match value {
                        Found::One(ty) => ty.to_string(),
                        Found::List(_) => "lists".to_owned(),
                    };
                    if !kinds.contains(&kind) {
                        kinds.push(kind);
                    }
                }
                match kinds.as_slice() {
                    [] => f.write_str("an empty list"),
                    kinds => write!(f, "a list of {}", kinds.join(" and ")),
                }
            }
        }
    }
}

/// "an int", "a Captioner", "one of "fp32", "bf16"".
pub(super) fn article(ty: Type) -> String {
    match ty {
        Type::Choice(words) => format!("one of {}", quoted(words)),
        Type::List(element) => format!("a list of {element}"),
        Type::OneOf(types) => types
            .iter()
            .map(|ty| article(*ty))
            .collect::<Vec<_>>()
            .join(" or "),
        ty => {
            let word = ty.to_string();
            let article = if word.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) {
                "an"
            } else {
                "a"
            };
            format!("{article} {word}")
        }
    }
}

/// "a", "a or b", "a, b or c": the first few of them.
pub(super) fn alternatives(mut words: impl Iterator<Item = String>) -> Option<String> {
    /// More would be a list to search through.
    const SHOWN: usize = 4;
    let mut shown: Vec<String> = words.by_ref().take(SHOWN).collect();
    if words.next().is_some() {
        shown.push("others".to_owned());
    }
    let last = shown.pop()?;
    Some(if shown.is_empty() {
        last
    } else {
        format!("{} or {last}", shown.join(", "))
    })
}

fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What to write where a value of this type is due.
fn instead(ty: Type) -> String {
    match ty {
        Type::Choice(words) => {
            format!(
                "write {}",
                alternatives(words.iter().map(|word| format!("\"{word}\""))).unwrap_or_default()
            )
        }
        Type::Str | Type::Path => format!(
            "write {} in quotes, such as \"{}\"",
            article(ty),
            sample(ty)
        ),
        ty => format!("write {}, such as {}", article(ty), sample(ty)),
    }
}

/// A value of this type as one would write it.
pub(super) fn sample(ty: Type) -> &'static str {
    match ty {
        Type::Int => "8",
        Type::Float => "0.5",
        Type::Bool => "true",
        Type::Duration => "10min",
        Type::Size => "16GiB",
        Type::Path => "data/file.json",
        Type::List(Type::Int) => "[8, 16]",
        Type::List(Type::Float) => "[0.5, 1.0]",
        Type::List(Type::Bool) => "[true, false]",
        Type::List(Type::Duration) => "[10min, 1h]",
        Type::List(Type::Size) => "[512MiB, 16GiB]",
        Type::List(_) => "[\"one\", \"two\"]",
        _ => "text",
    }
}

/// Whether a value of type `found` is one of type `ty`, coercions aside.
pub(super) fn fits(found: Type, ty: Type) -> bool {
    match ty {
        Type::OneOf(types) => types.iter().any(|ty| fits(found, *ty)),
        _ => found == ty,
    }
}

/// The value as `ty` takes it, if it does.
pub(super) fn coerce(value: &Value, found: &Found, ty: Type) -> Option<Value> {
    match (value, found, ty) {
        (_, _, Type::OneOf(types)) => {
            // A value that is of one of the types as it is does not become one of the others.
            let exact = types.iter().find(|ty| *found == Found::One(**ty));
            exact
                .map(|_| value.clone())
                .or_else(|| types.iter().find_map(|ty| coerce(value, found, *ty)))
        }
        (Value::Str(text), _, Type::Choice(words)) => {
            words.contains(&text.as_str()).then(|| value.clone())
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a user's whole number as a float; beyond 2^53 none is meant exactly"
        )]
        (Value::Int(number), _, Type::Float) => Some(Value::Float(*number as f64)),
        (Value::Str(text), _, Type::Path) => Some(Value::Path(text.clone())),
        (Value::List(values), Found::List(found), Type::List(element)) => {
            let values = values
                .iter()
                .zip(found)
                .map(|(value, found)| coerce(value, found, *element));
            values.collect::<Option<_>>().map(Value::List)
        }
        (_, Found::One(found), ty) => (*found == ty).then(|| value.clone()),
        _ => None,
    }
}

/// The value of an expression without names and calls.
pub(super) fn literal(expr: &Expr) -> Option<Typed> {
    let (value, ty) = match &expr.kind {
        ExprKind::Int(number) => (Value::Int(*number), Type::Int),
        ExprKind::Float(number) => (Value::Float(*number), Type::Float),
        ExprKind::Str(text) => (Value::Str(text.clone()), Type::Str),
        ExprKind::Bool(truth) => (Value::Bool(*truth), Type::Bool),
        ExprKind::Duration(ms) => (Value::Duration(*ms), Type::Duration),
        ExprKind::Size(bytes) => (Value::Size(*bytes), Type::Size),
        ExprKind::List(values) => {
            let typed: Vec<Typed> = values.iter().map(literal).collect::<Option<_>>()?;
            let (values, found) = typed.into_iter().unzip();
            return Some((Value::List(values), Found::List(found)));
        }
        ExprKind::Name(_) | ExprKind::Call { .. } | ExprKind::Fault => return None,
    };
    Some((value, Found::One(ty)))
}

/// Whether values of this type, or those in lists of it, have a smaller and a greater.
pub(crate) fn is_ordered(ty: Type) -> bool {
    match ty {
        Type::Int | Type::Float | Type::Duration | Type::Size => true,
        Type::List(element) => is_ordered(*element),
        Type::OneOf(types) => types.iter().any(|ty| is_ordered(*ty)),
        _ => false,
    }
}

/// The order of two values of one ordered type.
pub(super) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Duration(left), Value::Duration(right))
        | (Value::Size(left), Value::Size(right)) => Some(left.cmp(right)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        _ => None,
    }
}

/// The first value, in a list or by itself, that lies outside; both ends are inside.
pub(super) fn outside<'v>(value: &'v Value, (low, high): (&Value, &Value)) -> Option<&'v Value> {
    match value {
        Value::List(values) => values.iter().find_map(|value| outside(value, (low, high))),
        value => {
            let below = compare(value, low) == Some(Ordering::Less);
            (below || compare(value, high) == Some(Ordering::Greater)).then_some(value)
        }
    }
}

/// As [`outside`], for the range of an argument.
fn outside_argument(value: &Value, (low, high): (f64, f64)) -> Option<&Value> {
    match value {
        Value::List(values) => values
            .iter()
            .find_map(|value| outside_argument(value, (low, high))),
        value => amount(value)
            .is_some_and(|amount| !(low..=high).contains(&amount))
            .then_some(value),
    }
}

/// A number, duration or size as a plain number, for comparing with the range of an argument.
#[expect(
    clippy::cast_precision_loss,
    reason = "ranges are compared, not computed with"
)]
fn amount(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Duration(amount) | Value::Size(amount) => Some(*amount as f64),
        _ => None,
    }
}

impl Checker<'_> {
    /// The value as `ty` takes it, or a diagnostic. `place` is what it is for: "the argument `lr`
    /// of `pretrain`".
    pub(super) fn fit(
        &mut self,
        typed: &Typed,
        ty: Type,
        expr: &Expr,
        place: &dyn fmt::Display,
    ) -> Option<Value> {
        let (value, found) = typed;
        if let Some(value) = coerce(value, found, ty) {
            return Some(value);
        }
        // In a list that is written out, the values that do not fit are marked by themselves.
        if let (
            ExprKind::List(exprs),
            Value::List(values),
            Found::List(found),
            Type::List(element),
        ) = (&expr.kind, value, found, ty)
        {
            for ((value, found), expr) in values.iter().zip(found).zip(exprs) {
                self.fit(
                    &(value.clone(), found.clone()),
                    *element,
                    expr,
                    &format_args!("each value of {place}"),
                );
            }
            return None;
        }
        let label = match (value, ty) {
            (Value::Str(text), Type::Choice(_)) => format!("\"{text}\" is none of them"),
            _ => format!("this is {found}"),
        };
        let place = place.to_string();
        let verb = if place.starts_with("each") {
            "is"
        } else {
            "takes"
        };
        let message = format!("{place} {verb} {}", article(ty));
        let diagnostic = Diagnostic::error(codes::TYPE_MISMATCH, message).at(expr.span, label);
        let help = self
            .conversion(typed, ty)
            .or_else(|| self.makers(ty, expr.span));
        self.report(diagnostic.help(help.unwrap_or_else(|| instead(ty))));
        None
    }

    /// How the value could be written to fit.
    fn conversion(&mut self, (value, found): &Typed, ty: Type) -> Option<String> {
        Some(match (value, ty) {
            (_, Type::OneOf(types)) => types
                .iter()
                .find_map(|ty| self.conversion(&(value.clone(), found.clone()), *ty))?,
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
                match self.nearest(text, words.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => return None,
                }
            }
            (
                Value::Str(text),
                Type::Int | Type::Float | Type::Bool | Type::Duration | Type::Size,
            ) if crate::parser::parse_value(text)
                .and_then(|expr| literal(&expr))
                .is_some_and(|(value, found)| coerce(&value, &found, ty).is_some()) =>
            {
                format!("write it without quotes, {text}")
            }
            (Value::Int(_), Type::Bool) => "write true or false".to_owned(),
            (value, Type::List(element)) if coerce(value, found, *element).is_some() => {
                "write it in brackets: [ … ]".to_owned()
            }
            (Value::List(_), Type::List(_)) => return None,
            (Value::List(_), _) => "give one value, not a list".to_owned(),
            _ => return None,
        })
    }

    /// Which bindings of the file and which ops make a value of this type.
    fn makers(&self, ty: Type, for_use_at: Span) -> Option<String> {
        let named = match ty {
            Type::OneOf(types) => types.iter().all(|ty| matches!(ty, Type::Named(_))),
            ty => matches!(ty, Type::Named(_)),
        };
        if !named {
            return None;
        }
        let made = |op: &str| self.signatures.op(op).is_some_and(|op| fits(op.output, ty));
        let others = self
            .file
            .statements
            .iter()
            .filter(|statement| !statement.span.contains(for_use_at.start()));
        let bindings = others.filter_map(|statement| match &statement.kind {
            StatementKind::Binding {
                name,
                value:
                    Expr {
                        kind: ExprKind::Call { op, .. },
                        ..
                    },
            } => made(op.text).then(|| format!("`{}`", name.text)),
            _ => None,
        });
        let ops = self
            .signatures
            .ops()
            .filter(|op| made(op.name))
            .map(|op| format!("`{}(…)`", op.name));
        let what = article(ty);
        match (alternatives(bindings), alternatives(ops)) {
            (Some(names), Some(ops)) => Some(format!(
                "{what} is bound to {names}; another comes from {ops}"
            )),
            (Some(names), None) => Some(format!("{what} is bound to {names}")),
            (None, Some(ops)) => Some(format!("{what} comes from {ops}")),
            (None, None) => None,
        }
    }

    /// Whether the value of an argument lies in its range; else a diagnostic.
    pub(super) fn within(
        &mut self,
        value: &Value,
        ty: Type,
        range: (f64, f64),
        span: Span,
        place: &dyn fmt::Display,
    ) -> Option<()> {
        let Some(found) = outside_argument(value, range) else {
            return Some(());
        };
        let (low, high) = (bound_text(ty, range.0), bound_text(ty, range.1));
        let choose = match (range.0.is_finite(), range.1.is_finite()) {
            (true, false) => format!("choose {low} or more"),
            (false, true) => format!("choose at most {high}"),
            _ => format!("choose a value from {low} to {high}"),
        };
        let diagnostic = Diagnostic::error(
            codes::OUT_OF_RANGE,
            format!("{found} is out of range for {place}"),
        )
        .at(span, format!("allowed is {}", range_text(ty, range)))
        .help(choose);
        self.report(diagnostic);
        None
    }
}
