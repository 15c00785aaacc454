//! Where single results are: unit key -> (group, slot), file -> digest. It may be deleted at any time.
//!
//! The truth is in the files: records, objects, and the groups of unit results in `units/`. The index only makes
//! looking them up fast, and is filled again from `units/` when it is new or damaged.

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

/// The operations every index has. Keys are looked up in batches, sorted, since that is what stores are fast at.
pub trait Index: Send + Sync + fmt::Debug {
    /// The places of units, in the order asked.
    ///
    /// # Errors
    /// [`IndexError`], as every method here.
    fn units(&self, keys: &[Digest]) -> Result<Vec<Option<Place>>, IndexError>;
    /// Remembers the units of a group, slot by slot.
    fn add_units(&self, group: &Digest, keys: &[Digest]) -> Result<(), IndexError>;
    /// The digest of a user's file, by what `stat` says of it.
    fn file(&self, stat: &[u8]) -> Result<Option<Digest>, IndexError>;
    /// Remembers the digest of a user's file.
    fn add_file(&self, stat: &[u8], digest: &Digest) -> Result<(), IndexError>;
    /// Whether it has seen all groups there are; false for a new one.
    fn complete(&self) -> Result<bool, IndexError>;
    /// Says that it has.
    fn set_complete(&self) -> Result<(), IndexError>;
    /// Hands everything to the operating system.
    fn flush(&self) -> Result<(), IndexError>;
}

/// Which index a cache uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexKind {
    /// sled, in `index/`.
    Sled,
    /// In memory, filled from `units/` at every start: for file systems on which sled cannot lock.
    Memory,
}

#[cfg(test)]
pub(crate) fn contract(index: &dyn Index) {
    let keys: Vec<Digest> = (0..50_u8).map(|byte| Digest::of(&[byte])).collect();
    let group = Digest::of(b"group");
    assert_eq!(index.units(&keys).unwrap(), vec![None; 50]);
    index.add_units(&group, &keys[..30]).unwrap();
    let places = index.units(&keys).unwrap();
    assert_eq!(places[29], Some(Place { group, slot: 29 }));
    assert_eq!(places[30], None);
    index.add_file(b"stat", &group).unwrap();
    assert_eq!(index.file(b"stat").unwrap(), Some(group));
    assert_eq!(index.file(b"other").unwrap(), None);
    assert!(!index.complete().unwrap());
    index.set_complete().unwrap();
    assert!(index.complete().unwrap());
    index.flush().unwrap();
}
