//! Numbers with units and strings with escapes: from their text to their value.

use crate::ast::ExprKind;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::units;

/// Why a number is none.
#[derive(Debug)]
pub(crate) struct BadNumber {
    message: String,
    help: String,
}

impl BadNumber {
    fn new(message: String, help: &str) -> Self {
        Self { message, help: help.to_owned() }
    }

    /// The diagnostic for it.
    pub(crate) fn into_diagnostic(self, span: Span) -> Diagnostic {
        Diagnostic::error(codes::BAD_NUMBER, self.message).at(span, "this number").help(self.help)
    }
}

/// `57_600`, `3e-4`, `10min`, `1.5GiB`.
pub(crate) fn number(text: &str) -> Result<ExprKind, BadNumber> {
    let unit_at = unit_start(text);
    let (digits, unit) = text.split_at(unit_at);
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let fraction = plain.contains(['.', 'e', 'E']);
    if unit.is_empty() && !fraction {
        let help = "a whole number lies between -9223372036854775808 and 9223372036854775807";
        return plain.parse().map(ExprKind::Int).map_err(|_| BadNumber::new(format!("`{text}` is too large"), help));
    }
    let value: f64 = plain.parse().unwrap_or(f64::INFINITY);
    if !value.is_finite() {
        return Err(BadNumber::new(format!("`{text}` is too large"), "a number is at most about 1.8e308"));
    }
    // Negative zero would be a second zero with other bytes.
    let value = if value == 0.0 { 0.0 } else { value };
    if unit.is_empty() {
        return Ok(ExprKind::Float(value));
    }
    let find = |table: &[(&str, u64)]| table.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let whole = |factor: u64| {
        amount(value, factor).ok_or_else(|| {
            BadNumber::new(
                format!("`{text}` is no amount"),
                "an amount is a whole number of milliseconds or bytes, not negative",
            )
        })
    };
    match (find(&units::TIME), find(&units::SIZE)) {
        (Some(factor), _) => whole(factor).map(ExprKind::Duration),
        (_, Some(factor)) => whole(factor).map(ExprKind::Size),
        _ => {
            let names =
                |table: &[(&'static str, u64)]| table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
            let help = format!("the units are {} for time and {} for size", names(&units::TIME), names(&units::SIZE));
            Err(BadNumber { message: format!("`{unit}` is no unit"), help })
        }
    }
}

/// Where the unit begins. An `e` belongs to the number only with digits behind it.
fn unit_start(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = usize::from(text.starts_with('-'));
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    while digit(at) || matches!(bytes.get(at), Some(b'_' | b'.')) {
        at += 1;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if digit(at + 1 + sign) {
            at += 1 + sign;
            while digit(at) {
                at += 1;
            }
        }
    }
    at
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked: the product is whole, not negative and below 2^53"
)]
fn amount(value: f64, factor: u64) -> Option<u64> {
    let product = value * factor as f64;
    let rounded = product.round();
    let near = (product - rounded).abs() < 1e-6;
    (near && (0.0..9e15).contains(&rounded)).then_some(rounded as u64)
}

/// The text of a string literal, or where its first bad escape is and what it is.
pub(crate) fn string(literal: &str) -> Result<String, (usize, String)> {
    let inner = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or("");
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let bad = |rest: &str| (at + 1, format!("\\{rest}"));
        match chars.next().map(|(_, c)| c) {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some(c @ ('"' | '\\')) => text.push(c),
            Some('u') => {
                let rest = inner.get(at + 2..).unwrap_or("");
                let code = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(code, _)| code);
                let found = code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
                let (Some(code), Some(found)) = (code, found) else { return Err(bad("u")) };
                text.push(found);
                chars.nth(code.len() + 1);
            }
            Some(c) => return Err(bad(&c.to_string())),
            None => return Err(bad("")),
        }
    }
    Ok(text)
}
