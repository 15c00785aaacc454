//! The units of time and size that can follow a number.

/// Units of time in milliseconds, smallest first.
pub(crate) const TIME: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Units of size in bytes; within each family smallest first.
pub(crate) const SIZE: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A duration in the largest unit that writes it without a fraction: `90s`, `10min`.
pub fn duration_text(milliseconds: u64) -> String {
    largest_whole(milliseconds, &TIME, "0s")
}

/// A size in the unit that writes it without a fraction and with the smallest number: `16GiB`,
/// `500MB`.
pub fn size_text(bytes: u64) -> String {
    largest_whole(bytes, &SIZE, "0B")
}

fn largest_whole(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    if amount == 0 {
        return zero.to_owned();
    }
    let whole = units
        .iter()
        .filter(|(_, factor)| amount.is_multiple_of(*factor));
    match whole.max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) => format!("{}{unit}", amount / factor),
        None => zero.to_owned(),
    }
}
