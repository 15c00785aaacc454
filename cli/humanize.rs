//! Durations, counts and measurements, formatted for people.

/// A duration: `850ms`, `12.3s`, `1m 20s`, `2h 05m`, `3d 4h`.
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}.{}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// An integer with thousands separators: `57,600`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A measurement with four significant digits: `0.8731`, `12.04`, `1.2e-5`.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-3..1e6).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let decimals = match magnitude {
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    trimmed.to_owned()
}

/// The first `limit` metrics: `loss 1.204, accuracy 0.87`.
pub(crate) fn metrics(values: &[(String, f64)], limit: usize) -> String {
    let shown: Vec<String> = values
        .iter()
        .take(limit)
        .map(|(name, value)| format!("{name} {}", number(*value)))
        .collect();
    shown.join(", ")
}

/// `1 stage`, `2 stages`.
pub(crate) fn plural(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number as u64))
}

/// [`plural`] for the engine's 64-bit counts.
pub(crate) fn plural_u64(number: u64, noun: &str) -> String {
    plural(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

/// A size in binary units: `512 B`, `1.4 MiB`.
#[expect(
    clippy::cast_precision_loss,
    reason = "one decimal is shown, so the lost bits do not matter"
)]
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_use_two_units_at_most() {
        let texts = [0, 850, 12_345, 80_000, 7_500_000, 273_600_000].map(duration);
        assert_eq!(
            texts,
            ["0ms", "850ms", "12.3s", "1m 20s", "2h 05m", "3d 4h"]
        );
    }

    #[test]
    fn numbers_have_four_significant_digits() {
        let values = [
            0.0,
            0.873_12,
            12.043,
            0.000_012,
            1_200_000.0,
            57.0,
            f64::NAN,
            -1.5,
        ];
        assert_eq!(
            values.map(number),
            [
                "0", "0.8731", "12.04", "1.20e-5", "1.20e6", "57", "NaN", "-1.5"
            ]
        );
    }

    #[test]
    fn counts_have_thousands_separators() {
        assert_eq!(
            [0, 999, 1000, 57_600, 1_234_567].map(count),
            ["0", "999", "1,000", "57,600", "1,234,567"]
        );
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, 3 << 29].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 GiB"]
        );
    }
}
