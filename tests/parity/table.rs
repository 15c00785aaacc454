//! The table of a parity test: one row per comparison. It is printed, and the test fails if a row
//! is out of bounds.

use std::path::PathBuf;

/// The folder of the expected values: the stored fixtures, or those that `make parity` has just
/// made.
pub(crate) fn folder(part: &str) -> PathBuf {
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/fixtures");
    std::env::var_os("BLIP_PARITY")
        .map_or_else(|| PathBuf::from(stored), PathBuf::from)
        .join(part)
}

#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    quantity: String,
    ours: String,
    theirs: String,
    difference: f64,
    bound: f64,
}

impl Table {
    /// Adds a number of each side, their difference and its bound.
    pub(crate) fn number(
        &mut self,
        quantity: &str,
        (ours, theirs): (f64, f64),
        difference: f64,
        bound: f64,
    ) {
        let text = |value: f64| format!("{value:.6}");
        self.0.push(Row {
            quantity: quantity.to_owned(),
            ours: text(ours),
            theirs: text(theirs),
            difference,
            bound,
        });
    }

    /// Adds a count of equal cases; all must be equal.
    pub(crate) fn equal(&mut self, quantity: &str, equal: usize, all: usize) {
        let row = Row {
            quantity: quantity.to_owned(),
            ours: format!("{equal} equal"),
            theirs: format!("of {all}"),
            difference: (all - equal) as f64,
            bound: 0.0,
        };
        self.0.push(row);
    }

    /// Prints the rows.
    ///
    /// # Panics
    /// When there is no row, or one is out of bounds.
    #[expect(
        clippy::print_stdout,
        reason = "the table is the output of `make parity`"
    )]
    pub(crate) fn check(self) {
        assert!(!self.0.is_empty(), "nothing was compared");
        let mut outside = Vec::new();
        for Row {
            quantity,
            ours,
            theirs,
            difference,
            bound,
        } in self.0
        {
            // Not `difference > bound`: NaN is out of bounds.
            let inside = difference <= bound;
            let mark = if inside { ' ' } else { '!' };
            println!(
                "{mark} {quantity:<58} {ours:>14} {theirs:>14} {difference:>10.1e} {bound:>8.1e}"
            );
            if !inside {
                outside.push(format!(
                    "{quantity}: {ours} against {theirs}, {difference:e} apart, at most {bound:e}"
                ));
            }
        }
        assert!(outside.is_empty(), "out of bounds:\n{}", outside.join("\n"));
    }
}
