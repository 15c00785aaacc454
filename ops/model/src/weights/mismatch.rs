//! The difference between the tensors that a model needs and those that were found.

use std::fmt;

/// Names listed per kind of mismatch in a message.
const NAMES_MAX: usize = 8;

/// Tensors that do not fit the model.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mismatch {
    /// Needed and not found.
    pub missing: Vec<String>,
    /// Found and not needed.
    pub unexpected: Vec<String>,
    /// Name, shape found, shape expected.
    pub wrong_shape: Vec<(String, Vec<i64>, Vec<i64>)>,
    /// With infinities or NaN.
    pub not_finite: Vec<String>,
}

impl Mismatch {
    pub(crate) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Removes a tensor from the lists; returns whether it was on one.
    pub fn waive(&mut self, name: &str) -> bool {
        let before = self.clone();
        for names in [
            &mut self.missing,
            &mut self.unexpected,
            &mut self.not_finite,
        ] {
            names.retain(|listed| listed != name);
        }
        self.wrong_shape.retain(|(listed, ..)| listed != name);
        *self != before
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong_shape: Vec<String> = self
            .wrong_shape
            .iter()
            .map(|(name, found, expected)| {
                format!("{name} (found {found:?}, expected {expected:?})")
            })
            .collect();
        let kinds = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("wrong shape", &wrong_shape),
            ("not finite", &self.not_finite),
        ];
        let parts: Vec<String> = kinds
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(kind, names)| format!("{kind}: {}", abbreviate(names)))
            .collect();
        f.write_str(&parts.join("; "))
    }
}

impl std::error::Error for Mismatch {}

fn abbreviate(names: &[String]) -> String {
    let listed = names[..names.len().min(NAMES_MAX)].join(", ");
    let more = names.len().saturating_sub(NAMES_MAX);
    if more > 0 {
        format!("{listed} and {more} more")
    } else {
        listed
    }
}
