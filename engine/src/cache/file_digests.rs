//! Digests of the user's files by what `stat` says of them, so that no file is read twice:
//! `files/aa/<digest>`.
//!
//! They enter the index at once and are committed in groups, so that a rebuilt index knows them
//! too: reading a terabyte of images again would take an hour.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::DiskError;
use super::lookup::Lookup;
use crate::digest::Digest;

/// Digests are committed when there are this many, and at the end of a run.
const GROUP_FILES: usize = 1024;

/// Digests of input files by what `stat` says of them, so that unchanged files are not read again.
#[derive(Debug)]
pub struct FileDigests {
    lookup: Arc<Lookup>,
    /// Digests of `stat` and content that are not committed yet.
    pending: Mutex<Vec<(Digest, Digest)>>,
    is_writable: bool,
}

impl FileDigests {
    /// Where the cache is not writable, what is added is lost at the end.
    pub(crate) fn new(lookup: Arc<Lookup>, is_writable: bool) -> Self {
        Self {
            lookup,
            pending: Mutex::default(),
            is_writable,
        }
    }

    /// The digest of a file, by the digest of its `stat`.
    pub fn get(&self, stat: &Digest) -> Option<Digest> {
        self.lookup.file(stat)
    }

    pub fn add(&self, stat: &Digest, digest: &Digest) {
        self.lookup.add_files(None, &[(*stat, *digest)]);
        if !self.is_writable {
            return;
        }
        let mut pending = self.lock_pending();
        pending.push((*stat, *digest));
        let is_full = pending.len() >= GROUP_FILES;
        drop(pending);
        if is_full {
            self.commit_or_warn();
        }
    }

    /// A failure costs time, not correctness: the files are then read again by a later run.
    pub(crate) fn commit_or_warn(&self) {
        if let Err(error) = self.commit() {
            tracing::warn!(%error, "digests of files could not be stored; the files may be read again");
        }
    }

    /// Stores what was added.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn commit(&self) -> Result<(), DiskError> {
        let mut pending = std::mem::take(&mut *self.lock_pending());
        if pending.is_empty() {
            return Ok(());
        }
        pending.sort_unstable();
        let items = pending
            .iter()
            .map(|(stat, digest)| (*stat, digest.as_bytes().to_vec()))
            .collect();
        let group = self.lookup.files.put(items)?;
        // The entries are in the index already: this marks their group as seen.
        self.lookup.add_files(Some(&group), &[]);
        Ok(())
    }

    fn lock_pending(&self) -> MutexGuard<'_, Vec<(Digest, Digest)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
