//! The values of a call's arguments, by name.

use std::sync::Arc;

use crate::program::Value;

/// Names and values, sorted by name. A workflow may have very many of these, mostly small: a sorted
/// slice takes no more memory than it needs, and clones share it.
#[derive(Clone, PartialEq, Hash, Debug, Default)]
pub struct Arguments(Arc<[(&'static str, Value)]>);

impl Arguments {
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self
            .0
            .binary_search_by(|(known, _)| (*known).cmp(name))
            .ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// In the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// In the order of the names.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|(_, value)| value)
    }
}

/// Of equal names the last one wins.
impl FromIterator<(&'static str, Value)> for Arguments {
    fn from_iter<I: IntoIterator<Item = (&'static str, Value)>>(arguments: I) -> Self {
        let mut list: Vec<(&'static str, Value)> = arguments.into_iter().collect();
        list.reverse();
        list.sort_by_key(|(name, _)| *name);
        list.dedup_by_key(|(name, _)| *name);
        Self(list.into())
    }
}

impl<const N: usize> From<[(&'static str, Value); N]> for Arguments {
    fn from(arguments: [(&'static str, Value); N]) -> Self {
        arguments.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_by_name_and_listed_in_name_order() {
        let arguments = Arguments::from([
            ("b", Value::Int(1)),
            ("a", Value::Int(2)),
            ("b", Value::Int(3)),
        ]);
        let listed: Vec<_> = arguments.iter().collect();
        assert_eq!(listed, [("a", &Value::Int(2)), ("b", &Value::Int(3))]);
        assert_eq!(arguments.get("b"), Some(&Value::Int(3)));
        assert_eq!(
            (arguments.get("c"), Arguments::default().get("a")),
            (None, None)
        );
    }
}
