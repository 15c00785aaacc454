//! What differs between the key inputs of two stages, field by field.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::digest::Digest;

/// A field that differs between two stages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    pub field: String,
    /// Nothing when the field is new.
    pub old: Option<String>,
    /// Nothing when the field is gone.
    pub new: Option<String>,
}

/// What differs between the fields of two key inputs, in time that grows with their lengths. Fields
/// that occur several times are compared as a set, so that one more input shard is one difference.
pub fn differences(old: &[(String, String)], new: &[(String, String)]) -> Vec<Difference> {
    let old_fields: BTreeSet<&(String, String)> = old.iter().collect();
    let new_fields: BTreeSet<&(String, String)> = new.iter().collect();
    // Values that are not there any more, by field, in their old order.
    let mut gone: BTreeMap<&str, VecDeque<&str>> = BTreeMap::new();
    for (field, value) in old.iter().filter(|field| !new_fields.contains(field)) {
        gone.entry(field).or_default().push_back(value);
    }
    let mut found = Vec::new();
    // Each new value replaces a gone one of its field, as long as there are some.
    for (field, value) in new.iter().filter(|field| !old_fields.contains(field)) {
        let replaced = gone.get_mut(field.as_str()).and_then(VecDeque::pop_front);
        found.push(Difference {
            field: field.clone(),
            old: replaced.map(str::to_owned),
            new: Some(value.clone()),
        });
    }
    // In the order of the old fields; `gone` is emptied at the first occurrence of each.
    for (field, _) in old {
        let values = gone.remove(field.as_str()).unwrap_or_default();
        for value in values {
            found.push(Difference {
                field: field.clone(),
                old: Some(value.to_owned()),
                new: None,
            });
        }
    }
    found
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{field}: {} -> {}", short(old), short(new)),
            (None, Some(new)) => write!(f, "{field}: {} is new", short(new)),
            (Some(old), None) => write!(f, "{field}: {} is gone", short(old)),
            (None, None) => write!(f, "{field}"),
        }
    }
}

/// A digest by its first digits, everything else as it is.
fn short(value: &str) -> String {
    value
        .parse::<Digest>()
        .map_or_else(|_| value.to_owned(), |digest| digest.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn shown(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        differences(&fields(old), &fields(new))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn differences_are_named_field_by_field() {
        let old = [
            ("argument a", "1"),
            ("argument b", "2"),
            ("file", "x"),
            ("file", "y"),
        ];
        assert_eq!(shown(&old, &old), [""; 0]);
        let new = [
            ("argument a", "1"),
            ("argument c", "3"),
            ("file", "x"),
            ("file", "z"),
            ("file", "w"),
        ];
        assert_eq!(
            shown(&old, &new),
            [
                "argument c: 3 is new",
                "file: y -> z",
                "file: w is new",
                "argument b: 2 is gone"
            ]
        );
    }

    #[test]
    fn a_hundred_thousand_shards_that_all_changed_are_compared() {
        let shards = |version: &str| -> Vec<(String, String)> {
            (0..100_000)
                .map(|number| ("file".to_owned(), format!("{version}{number}")))
                .collect()
        };
        assert_eq!(differences(&shards("a"), &shards("b")).len(), 100_000);
    }
}
