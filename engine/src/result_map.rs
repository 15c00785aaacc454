//! Results by key. There are as many as stages, and a result holds its key already, so a set of
//! results takes half the memory of a map.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::cache::stage_result::StageResult;
use crate::digest::Digest;

/// Results, at most one of each key.
#[derive(Debug, Default)]
pub(crate) struct ResultMap(HashSet<ByKey>);

/// A result that is hashed and compared as its key.
#[derive(Debug)]
struct ByKey(Arc<StageResult>);

impl ResultMap {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(HashSet::with_capacity(count))
    }

    pub(crate) fn get(&self, key: &Digest) -> Option<&Arc<StageResult>> {
        self.0.get(key).map(|ByKey(result)| result)
    }

    /// Inserts a result; returns the one that had the same key before.
    pub(crate) fn insert(&mut self, result: Arc<StageResult>) -> Option<Arc<StageResult>> {
        self.0.replace(ByKey(result)).map(|ByKey(before)| before)
    }

    pub(crate) fn remove(&mut self, key: &Digest) {
        self.0.remove(key);
    }
}

impl Borrow<Digest> for ByKey {
    fn borrow(&self) -> &Digest {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}
