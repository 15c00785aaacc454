//! Numbers with units and strings with escapes: from their text to their value.

use crate::ast::ExprKind;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::units;

/// An invalid number.
#[derive(Debug)]
pub(crate) struct BadNumber {
    message: String,
    help: String,
}

impl BadNumber {
    fn new(message: String, help: impl Into<String>) -> Self {
        let help = help.into();
        Self { message, help }
    }

    pub(crate) fn into_diagnostic(self, span: Span) -> Diagnostic {
        Diagnostic::error(codes::BAD_NUMBER, self.message)
            .at(span, "this number")
            .help(self.help)
    }
}

/// Below this every whole number of milliseconds or bytes is exact as a float.
const AMOUNT_MAX: f64 = 9e15;

/// `57_600`, `3e-4`, `10min`, `1.5GiB`.
pub(crate) fn number(text: &str) -> Result<ExprKind<'static>, BadNumber> {
    let (digits, unit) = text.split_at(unit_start(text));
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let fraction = plain.contains(['.', 'e', 'E']);
    if unit.is_empty() && !fraction {
        let help = "a whole number lies between -9223372036854775808 and 9223372036854775807";
        return plain
            .parse()
            .map(ExprKind::Int)
            .map_err(|_| BadNumber::new(format!("`{text}` is too large"), help));
    }
    let value: f64 = plain.parse().unwrap_or(f64::INFINITY);
    if !value.is_finite() {
        return Err(BadNumber::new(
            format!("`{text}` is too large"),
            "a number is at most about 1.8e308",
        ));
    }
    // -0.0 becomes 0.0: equal values have to have equal bits, since keys hash the bits.
    let value = if value == 0.0 { 0.0 } else { value };
    if unit.is_empty() {
        return Ok(ExprKind::Float(value));
    }
    if let Some(factor) = factor_of(unit, &units::TIME) {
        return whole_amount(text, value, factor).map(ExprKind::Duration);
    }
    if let Some(factor) = factor_of(unit, &units::SIZE) {
        return whole_amount(text, value, factor).map(ExprKind::Size);
    }
    let help = format!(
        "the units are {} for time and {} for size",
        unit_names(&units::TIME),
        unit_names(&units::SIZE)
    );
    Err(BadNumber::new(format!("unknown unit `{unit}`"), help))
}

fn factor_of(unit: &str, table: &[(&str, u64)]) -> Option<u64> {
    let (_, factor) = table.iter().find(|(name, _)| *name == unit)?;
    Some(*factor)
}

fn unit_names(table: &[(&str, u64)]) -> String {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    names.join(" ")
}

/// Where the unit begins. An `e` belongs to the number only if digits follow it.
fn unit_start(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = usize::from(text.starts_with('-'));
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    while is_digit(at) || matches!(bytes.get(at), Some(b'_' | b'.')) {
        at += 1;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if is_digit(at + 1 + sign) {
            at += 1 + sign;
            while is_digit(at) {
                at += 1;
            }
        }
    }
    at
}

/// `value` times `factor`, if it is a whole number of milliseconds or bytes in range. `text` is the
/// number as written.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "factors are small or powers of two; the product is checked to be in 0..2^53"
)]
fn whole_amount(text: &str, value: f64, factor: u64) -> Result<u64, BadNumber> {
    let product = value * factor as f64;
    let rounded = product.round();
    // Decimal fractions such as 0.1 are not exact, so neither is the product.
    let is_whole = (product - rounded).abs() < 1e-6;
    if is_whole && (0.0..AMOUNT_MAX).contains(&rounded) {
        return Ok(rounded as u64);
    }
    let what = if value < 0.0 {
        "is negative"
    } else if product >= AMOUNT_MAX {
        "is too large"
    } else {
        "is too precise"
    };
    let help = "a duration is a whole number of milliseconds, a size one of bytes, from 0 to 9e15";
    Err(BadNumber::new(format!("`{text}` {what}"), help))
}

/// An invalid escape in a string literal.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct BadEscape {
    /// From which byte of the literal on.
    at: usize,
    text: String,
}

impl BadEscape {
    /// `start` is where the literal begins in its source.
    pub(crate) fn into_diagnostic(self, start: usize) -> Diagnostic {
        let at = start + self.at;
        let (message, help) = if self.text.starts_with("\\u") {
            let help = "write the number of a character in hexadecimal, as in \\u{1f600}";
            (format!("invalid character escape `{}`", self.text), help)
        } else {
            let help =
                r#"the escapes are \n \r \t \" \\ and \u{1f600}; a backslash itself is written \\"#;
            (format!("unknown escape `{}`", self.text), help)
        };
        Diagnostic::error(codes::BAD_ESCAPE, message)
            .at(Span::new(at, at + self.text.len()), "in this string")
            .help(help)
    }
}

/// The text of a string literal, without its invalid escapes, and those.
pub(crate) fn string(literal: &str) -> (String, Vec<BadEscape>) {
    let inner = literal
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or("");
    let mut text = String::with_capacity(inner.len());
    let mut bad = Vec::new();
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        let (found, len) = if c == '\\' {
            escape(rest)
        } else {
            (Some(c), c.len_utf8())
        };
        match found {
            Some(found) => text.push(found),
            None => bad.push(BadEscape {
                at: literal.len() - 1 - rest.len(),
                text: rest.get(..len).unwrap_or("").to_owned(),
            }),
        }
        rest = rest.get(len..).unwrap_or("");
    }
    (text, bad)
}

/// The character that the escape at the start of `rest` stands for, and the escape's length.
fn escape(rest: &str) -> (Option<char>, usize) {
    let Some(c) = rest.chars().nth(1) else {
        return (None, 1);
    };
    match c {
        'n' => (Some('\n'), 2),
        'r' => (Some('\r'), 2),
        't' => (Some('\t'), 2),
        '"' | '\\' => (Some(c), 2),
        'u' => unicode_escape(rest),
        _ => (None, 1 + c.len_utf8()),
    }
}

/// As [`escape`], for `\u{…}`.
fn unicode_escape(rest: &str) -> (Option<char>, usize) {
    let Some(digits) = rest.get(2..).and_then(|rest| rest.strip_prefix('{')) else {
        return (None, 2);
    };
    let Some(len) = digits.find(|c: char| !c.is_ascii_hexdigit()) else {
        return (None, 3 + digits.len());
    };
    let (digits, rest) = digits.split_at(len);
    let closed = rest.starts_with('}');
    let code_point = u32::from_str_radix(digits, 16).ok();
    let character = code_point.and_then(char::from_u32);
    // NUL is refused: no path or prompt contains it, and the system takes it for the end of one.
    let valid = character.filter(|c| closed && *c != '\0');
    (valid, 3 + len + usize::from(closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_their_characters() {
        assert_eq!(
            string(r#""a\n\t\r\"\\\u{1F600}\u{e9}""#),
            ("a\n\t\r\"\\\u{1f600}\u{e9}".to_owned(), vec![])
        );
    }

    #[test]
    fn every_invalid_escape_is_found_with_its_offset() {
        let (text, bad) = string(r#""ü\q \u12 \u{zz} \u{110000} \u{0} \ü""#);
        assert_eq!(text, "ü 12 zz}   ");
        let bad: Vec<(usize, &str)> = bad.iter().map(|bad| (bad.at, bad.text.as_str())).collect();
        assert_eq!(
            bad,
            [
                (3, r"\q"),
                (6, r"\u"),
                (11, r"\u{"),
                (18, r"\u{110000}"),
                (29, r"\u{0}"),
                (35, r"\ü")
            ]
        );
    }

    #[test]
    fn numbers_and_units() {
        let good = |text| number(text).expect("a number");
        assert_eq!(good("57_600"), ExprKind::Int(57_600));
        assert_eq!(good("-9223372036854775808"), ExprKind::Int(i64::MIN));
        assert_eq!(good("3e-4"), ExprKind::Float(3e-4));
        assert_eq!(good("1_0.2_5E+1"), ExprKind::Float(102.5));
        assert_eq!(good("10min"), ExprKind::Duration(600_000));
        assert_eq!(good("1.5GiB"), ExprKind::Size(3 << 29));
        assert_eq!(good("2e3ms"), ExprKind::Duration(2_000));
        let ExprKind::Float(zero) = good("-0.0") else {
            panic!("a float")
        };
        assert!(zero.is_sign_positive());
        for bad in [
            "9223372036854775808",
            "1e999",
            "0.5ms",
            "-1s",
            "3parsecs",
            "1e",
            "99999999TB",
        ] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
