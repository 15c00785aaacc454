//! Ranges of arguments and params.

use std::cmp::Ordering;
use std::fmt;

use super::Checker;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::program::Value;
use crate::signature::{bound_text, range_text};
use crate::span::Span;
use crate::types::Type;

/// Whether values of this type, or those in lists of it, can be compared, and so can have a range.
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

/// The first value, in a list or by itself, outside of a param's range, which includes both ends.
/// Compares the values themselves: ints beyond 2^53 are exact.
pub(super) fn first_outside<'v>(
    value: &'v Value,
    (low, high): (&Value, &Value),
) -> Option<&'v Value> {
    if let Value::List(values) = value {
        return values
            .iter()
            .find_map(|value| first_outside(value, (low, high)));
    }
    let too_low = compare(value, low) == Some(Ordering::Less);
    let too_high = compare(value, high) == Some(Ordering::Greater);
    (too_low || too_high).then_some(value)
}

/// As [`first_outside`], for the range of an argument, whose ends may be infinite.
fn first_outside_argument(value: &Value, (low, high): (f64, f64)) -> Option<&Value> {
    if let Value::List(values) = value {
        return values
            .iter()
            .find_map(|value| first_outside_argument(value, (low, high)));
    }
    let number = as_number(value)?;
    (!(low..=high).contains(&number)).then_some(value)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ranges are compared, not computed with"
)]
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Duration(amount) | Value::Size(amount) => Some(*amount as f64),
        _ => None,
    }
}

impl Checker<'_> {
    /// Reports the first value outside of the range of an argument; `None` then. `argument` is what
    /// the message calls it.
    pub(super) fn check_range(
        &mut self,
        value: &Value,
        ty: Type,
        range: (f64, f64),
        span: Span,
        argument: &dyn fmt::Display,
    ) -> Option<()> {
        let Some(found) = first_outside_argument(value, range) else {
            return Some(());
        };
        let low = bound_text(ty, range.0);
        let high = bound_text(ty, range.1);
        let help = match (range.0.is_finite(), range.1.is_finite()) {
            (true, false) => format!("choose {low} or more"),
            (false, true) => format!("choose at most {high}"),
            _ => format!("choose a value from {low} to {high}"),
        };
        let message = format!("{found} is out of range for {argument}");
        let label = format!("the allowed range is {}", range_text(ty, range));
        let diagnostic = Diagnostic::error(codes::OUT_OF_RANGE, message);
        self.report(diagnostic.at(span, label).help(help));
        None
    }
}
