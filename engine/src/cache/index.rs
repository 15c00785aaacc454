//! Where single results are: unit key -> (group, slot), file -> digest. It may be deleted at any
//! time.
//!
//! The truth is in the files: records, objects, and the groups in `units/` and `files/`. The index
//! only makes looking them up fast. It remembers which groups it has seen, so that whatever it
//! lacks is found by listing them.

use std::fmt;

use crate::digest::Digest;

/// Where a unit's result lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The group: a file in `units/`.
    pub group: Digest,
    /// The result's place in it.
    pub slot: u32,
}

/// A damaged or unreachable index. It is set aside and built again; no run fails because of it.
#[derive(Debug, thiserror::Error)]
#[error("the index is unusable: {0}")]
pub struct IndexError(pub String);

/// The operations every index has. Keys are looked up in batches, sorted, since that is what stores
/// are fast at.
pub trait Index: Send + Sync + fmt::Debug {
    /// The places of units, in the order asked.
    ///
    /// # Errors
    /// [`IndexError`], as every method here.
    fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError>;
    /// Remembers the units of a group, slot by slot, and then that it has seen the group: one of
    /// which only some units are remembered is read again.
    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError>;
    /// The digest of a user's file, by the digest of what `stat` says of it.
    fn file(&self, stat: &Digest) -> Result<Option<Digest>, IndexError>;
    /// Remembers digests of user's files, and then that it has seen the group they are in if they
    /// are in one.
    fn add_files(
        &self,
        group: Option<&Digest>,
        files: &[(Digest, Digest)],
    ) -> Result<(), IndexError>;
    /// Whether it has seen a group.
    fn has_group(&self, group: &Digest) -> Result<bool, IndexError>;
    /// Hands everything to the operating system.
    fn flush(&self) -> Result<(), IndexError>;
    /// Whether what it knows outlives this process.
    fn lasts(&self) -> bool;
    /// It is damaged: whoever opens it next sets it aside.
    fn condemn(&self);
}

/// Which index a cache uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexKind {
    /// sled, in `index/`. Only one process can have it open: others at work at the same time use
    /// one in memory.
    Sled,
    /// In memory, filled from the groups when something is looked up: for file systems on which
    /// sled is not safe.
    Memory,
}

#[cfg(test)]
pub(crate) fn contract(index: &dyn Index) {
    let keys: Vec<Digest> = (0..50_u8).map(|byte| Digest::of(&[byte])).collect();
    let (group, other) = (Digest::of(b"group"), Digest::of(b"other"));
    assert_eq!(index.units(&keys).unwrap(), vec![None; 50]);
    assert!(!index.has_group(&group).unwrap());
    index.add_units(&group, &keys[..30]).unwrap();
    assert!(index.has_group(&group).unwrap());
    let places = index.units(&keys).unwrap();
    assert_eq!(places[29], Some(Place { group, slot: 29 }));
    assert_eq!(places[30], None);
    index.add_files(None, &[(keys[0], keys[1])]).unwrap();
    assert_eq!(index.file(&keys[0]).unwrap(), Some(keys[1]));
    assert_eq!(index.file(&keys[1]).unwrap(), None);
    assert!(!index.has_group(&other).unwrap());
    index
        .add_files(Some(&other), &[(keys[1], keys[2])])
        .unwrap();
    assert_eq!(index.file(&keys[1]).unwrap(), Some(keys[2]));
    assert!(index.has_group(&other).unwrap());
    assert_eq!(index.units(&[other]).unwrap(), [None], "a group is no unit");
    index.flush().unwrap();
}
