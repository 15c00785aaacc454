//! What the parity tests compare, as a table: each test fills one, prints it, and fails when a row
//! is out of bounds.

use std::path::PathBuf;

/// Where the numbers to compare with lie: the stored fixtures, or what `make parity` has just made.
pub(crate) fn folder(part: &str) -> PathBuf {
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/fixtures");
    std::env::var_os("BLIP_PARITY")
        .map_or_else(|| PathBuf::from(stored), PathBuf::from)
        .join(part)
}

/// Rows of quantities.
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
    /// A number of each side, and how far apart they may be.
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

    /// How many of things that have to be equal are.
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
    /// When there are none, or some are out of bounds.
    #[expect(
        clippy::print_stdout,
        reason = "the table is what `make parity` is run for"
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
            // Not `difference > bound`: NaN is outside.
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
