//! The index: unit key -> (group, slot), `stat` of a file -> digest. It may be deleted at any time.
//!
//! The truth is in the files: records, objects, and the groups in `units/` and `files/`. The index
//! only makes looking them up fast. It remembers which groups it has seen, so that what it lacks is
//! found by listing the groups.

use std::fmt;

use crate::digest::Digest;

/// Where the result of a unit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitLocation {
    /// A file in `units/`.
    pub group: Digest,
    /// The result's position in it.
    pub slot: u32,
}

/// Why an index cannot be used. No run fails because of it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is moved away and rebuilt.
    #[error("the index is unusable: {0}")]
    Corrupt(String),
    /// It cannot be read at the moment, and stays as it is.
    #[error("the index could not be read: {0}")]
    Unreadable(String),
}

/// The operations of an index. Keys are looked up in batches, since stores are fast at those.
pub trait Index: Send + Sync + fmt::Debug {
    /// The locations of units, in the order of `keys`.
    ///
    /// # Errors
    /// [`IndexError`], as every method here.
    fn unit_locations(&self, keys: &[Digest]) -> Result<Vec<Option<UnitLocation>>, IndexError>;
    /// Adds the units of a group, in the order of its slots, and then marks the group as seen. In
    /// this order a group whose units were added only in part is read again.
    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError>;
    /// The digest of a user's file, by the digest of its `stat`.
    fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError>;
    /// Adds digests of user's files, and then marks their group as seen, if they are in one.
    fn add_files(
        &self,
        group: Option<&Digest>,
        files: &[(Digest, Digest)],
    ) -> Result<(), IndexError>;
    fn has_group(&self, group: &Digest) -> Result<bool, IndexError>;
    /// Hands everything to the operating system.
    fn flush(&self) -> Result<(), IndexError>;
    /// Whether its content outlives this process.
    fn is_persistent(&self) -> bool;
    /// Marks it as corrupt: the next process that opens it moves it away and rebuilds it.
    fn mark_corrupt(&self);
}

/// Which index a cache uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexKind {
    /// sled, in `index/`. Only one process can have it open; the others use one in memory.
    Sled,
    /// In memory, filled from the groups on first use: for file systems on which sled is not safe.
    Memory,
}

#[cfg(test)]
pub(crate) fn check_contract(index: &dyn Index) {
    let keys: Vec<Digest> = (0..50_u8).map(|byte| Digest::of(&[byte])).collect();
    let (group, other) = (Digest::of(b"group"), Digest::of(b"other"));
    assert_eq!(index.unit_locations(&keys).unwrap(), vec![None; 50]);
    assert!(!index.has_group(&group).unwrap());
    index.add_units(&group, &keys[..30]).unwrap();
    assert!(index.has_group(&group).unwrap());
    let locations = index.unit_locations(&keys).unwrap();
    assert_eq!(locations[29], Some(UnitLocation { group, slot: 29 }));
    assert_eq!(locations[30], None);
    index.add_files(None, &[(keys[0], keys[1])]).unwrap();
    assert_eq!(index.file(&keys[0]).unwrap(), Some(keys[1]));
    assert_eq!(index.file(&keys[1]).unwrap(), None);
    assert!(!index.has_group(&other).unwrap());
    index
        .add_files(Some(&other), &[(keys[1], keys[2])])
        .unwrap();
    assert_eq!(index.file(&keys[1]).unwrap(), Some(keys[2]));
    assert!(index.has_group(&other).unwrap());
    assert_eq!(
        index.unit_locations(&[other]).unwrap(),
        [None],
        "a group is not a unit"
    );
    index.flush().unwrap();
}
