//! Digests of the user's files by what `stat` says of them, so that no file is read twice:
//! `files/aa/<digest>`.
//!
//! They are remembered in the index at once and committed in groups, so that an index built again
//! knows them too: reading a terabyte of images once more would take an hour.

use std::sync::{Arc, Mutex, PoisonError};

use super::disk::DiskError;
use super::lookup::Lookup;
use crate::digest::Digest;

/// Digests are committed when there are this many, and at the end of a run.
const GROUP_FILES: usize = 1024;

/// The digests of files.
#[derive(Debug)]
pub struct FileDigests {
    lookup: Arc<Lookup>,
    pending: Mutex<Vec<(Digest, Digest)>>,
}

impl FileDigests {
    pub(crate) fn new(lookup: Arc<Lookup>) -> Self {
        Self {
            lookup,
            pending: Mutex::default(),
        }
    }

    /// The digest of a file, by the digest of what `stat` says of it.
    pub fn get(&self, stat: &Digest) -> Option<Digest> {
        self.lookup.file(stat)
    }

    /// Remembers the digest of a file.
    pub fn add(&self, stat: &Digest, digest: &Digest) {
        self.lookup.add_files(None, &[(*stat, *digest)]);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.push((*stat, *digest));
        let full = pending.len() >= GROUP_FILES;
        drop(pending);
        if full && let Err(error) = self.commit() {
            tracing::warn!(%error, "digests of files could not be stored: the files may be read again");
        }
    }

    /// Stores what has been remembered.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn commit(&self) -> Result<(), DiskError> {
        let mut pending =
            std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        if pending.is_empty() {
            return Ok(());
        }
        pending.sort_unstable();
        let items = pending
            .iter()
            .map(|(stat, digest)| (*stat, digest.as_bytes().to_vec()))
            .collect();
        let group = self.lookup.files.put(items)?;
        self.lookup.add_files(Some(&group), &[]);
        Ok(())
    }
}
