//! Results by key. Of these there are as many as stages, and a result holds its key already:
//! nothing else is kept.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::cache::ledger::StageResult;
use crate::digest::Digest;

/// Results, at most one of each key.
#[derive(Debug, Default)]
pub(crate) struct Known(HashSet<Keyed>);

/// A result that stands for its key.
#[derive(Debug)]
struct Keyed(Arc<StageResult>);

impl Known {
    /// None yet, with room for so many.
    pub(crate) fn for_at_most(count: usize) -> Self {
        Self(HashSet::with_capacity(count))
    }

    /// The result of a key.
    pub(crate) fn get(&self, key: &Digest) -> Option<&Arc<StageResult>> {
        self.0.get(key).map(|Keyed(finished)| finished)
    }

    /// Adds a result, in the place of the one of its key if there is one, which is handed back.
    pub(crate) fn insert(&mut self, finished: Arc<StageResult>) -> Option<Arc<StageResult>> {
        self.0.replace(Keyed(finished)).map(|Keyed(before)| before)
    }

    /// Forgets the result of a key.
    pub(crate) fn remove(&mut self, key: &Digest) {
        self.0.remove(key);
    }
}

impl Borrow<Digest> for Keyed {
    fn borrow(&self) -> &Digest {
        &self.0.key
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Keyed {}

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}
