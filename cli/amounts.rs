//! Times and numbers as people read them.

/// A time in milliseconds: `850ms`, `12.3s`, `1m 20s`, `2h 05m`, `3d 4h`.
pub(crate) fn took(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}.{}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A whole number with a comma at every third digit: `57,600`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measured number with four digits that matter: `0.8731`, `12.04`, `1.2e-5`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    short.to_owned()
}

/// Names with their numbers: `loss 1.204, accuracy 0.87`.
pub(crate) fn numbers(values: &[(String, f64)], most: usize) -> String {
    let shown: Vec<String> = values
        .iter()
        .take(most)
        .map(|(name, value)| format!("{name} {}", number(*value)))
        .collect();
    shown.join(", ")
}

/// "1 stage", "2 stages".
pub(crate) fn plural(number: usize, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {word}{ending}", count(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let texts: Vec<String> = [0, 850, 12_345, 80_000, 7_500_000, 273_600_000]
            .map(took)
            .to_vec();
        assert_eq!(
            texts,
            ["0ms", "850ms", "12.3s", "1m 20s", "2h 05m", "3d 4h"]
        );
    }

    #[test]
    fn numbers_have_four_digits_that_matter() {
        let texts: Vec<String> = [
            0.0,
            0.873_12,
            12.043,
            0.000_012,
            1_200_000.0,
            57.0,
            f64::NAN,
            -1.5,
        ]
        .map(number)
        .to_vec();
        assert_eq!(
            texts,
            [
                "0", "0.8731", "12.04", "1.20e-5", "1.20e6", "57", "NaN", "-1.5"
            ]
        );
        assert_eq!(
            [0, 999, 1000, 57_600, 1_234_567].map(count),
            ["0", "999", "1,000", "57,600", "1,234,567"]
        );
    }
}
