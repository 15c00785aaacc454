//! Groups: files named by their digest that hold many small results, `units/aa/<digest>` and
//! `files/aa/<digest>`.
//!
//! A group has the bytes of a [`Chunk`], so it says by itself what is in it, and an index can be
//! filled from the folder.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::damaged::Damaged;
use super::disk::{Disk, DiskError};
use super::objects::sharded;
use crate::dataset::{Chunk, Item};
use crate::digest::Digest;

/// A folder of groups.
#[derive(Debug)]
pub(crate) struct Groups {
    folder: PathBuf,
    disk: Disk,
    damaged: Damaged,
}

impl Groups {
    pub(crate) fn new(folder: PathBuf, disk: Disk, damaged: Damaged) -> Self {
        Self {
            folder,
            disk,
            damaged,
        }
    }

    /// Stores a group; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(crate) fn put(&self, items: Vec<(Digest, Vec<u8>)>) -> Result<Digest, DiskError> {
        let items = items
            .into_iter()
            .map(|(id, payload)| Item { id, payload })
            .collect();
        let bytes = Chunk { items }.encode();
        let group = Digest::of(&bytes);
        let path = self.place(&group);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            // Whoever wrote it may not have come to syncing the folder.
            path.parent()
                .map_or(Ok(()), |folder| self.disk.sync_folder(folder))?;
        } else {
            if path.symlink_metadata().is_ok() {
                self.damaged.set_aside(&path)?;
            }
            self.disk.write(&path, &bytes)?;
        }
        Ok(group)
    }

    /// A group; nothing when it is missing or damaged, which it then is no longer here.
    pub(crate) fn get(&self, group: &Digest) -> Option<Chunk> {
        let path = self.place(group);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(_) => {
                self.damaged
                    .set_aside_quietly(&path, "a group that cannot be read");
                return None;
            }
        };
        let chunk = (Digest::of(&bytes) == *group)
            .then(|| Chunk::decode(&bytes).ok())
            .flatten();
        if chunk.is_none() {
            self.damaged.set_aside_quietly(&path, "a damaged group");
        }
        chunk
    }

    /// Where a group is.
    pub(crate) fn place(&self, group: &Digest) -> PathBuf {
        sharded(&self.folder, group)
    }

    /// All groups there are, sorted.
    pub(crate) fn list(&self) -> Vec<Digest> {
        let mut groups: Vec<Digest> = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let entries = fs::read_dir(folder.path()).into_iter().flatten().flatten();
            groups.extend(
                entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Digest>().ok()),
            );
        }
        groups.sort_unstable();
        groups
    }
}
