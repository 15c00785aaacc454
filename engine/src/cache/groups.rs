//! Groups: files named by their digest that hold many small results, `units/aa/<digest>` and
//! `files/aa/<digest>`.
//!
//! A group has the bytes of a [`Chunk`], so it lists its own content, and an index can be filled
//! from the folder.

use std::path::PathBuf;

use super::corrupt::CorruptFolder;
use super::disk::{Disk, DiskError, folder_of};
use super::objects::sharded;
use crate::dataset::{Chunk, Item};
use crate::digest::Digest;

/// A folder of groups.
#[derive(Debug)]
pub(crate) struct Groups {
    folder: PathBuf,
    disk: Disk,
    corrupt: CorruptFolder,
}

impl Groups {
    pub(crate) fn new(folder: PathBuf, disk: Disk, corrupt: CorruptFolder) -> Self {
        Self {
            folder,
            disk,
            corrupt,
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
        let path = self.path(&group);
        match self.disk.read(&path) {
            Ok(Some(existing)) if existing == bytes => {
                // The process that wrote it may have died before it synced the folder.
                self.disk.sync_folder(folder_of(&path))?;
                return Ok(group);
            }
            Ok(None) => {}
            // What cannot be read is replaced by the same bytes.
            Err(error) if !error.is_a_folder() => {}
            // Something else has its name: a corrupt file, which is kept, or a folder, which a
            // rename would not replace.
            Ok(Some(_)) | Err(_) => {
                self.corrupt.move_in(&path)?;
            }
        }
        self.disk.write(&path, &bytes)?;
        Ok(group)
    }

    /// A group. A corrupt one is moved away and counts as missing.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be read.
    pub(crate) fn get(&self, group: &Digest) -> Result<Option<Chunk>, DiskError> {
        let path = self.path(group);
        let bytes = match self.disk.read(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.is_a_folder() => Vec::new(),
            Err(error) => return Err(error),
        };
        if Digest::of(&bytes) == *group
            && let Ok(chunk) = Chunk::decode(&bytes)
        {
            return Ok(Some(chunk));
        }
        self.corrupt.move_in_or_warn(&path, "corrupt group");
        Ok(None)
    }

    fn path(&self, group: &Digest) -> PathBuf {
        sharded(&self.folder, group)
    }

    /// All groups that exist, sorted.
    ///
    /// # Errors
    /// [`DiskError`] when a folder cannot be listed.
    pub(crate) fn list(&self) -> Result<Vec<Digest>, DiskError> {
        let mut groups: Vec<Digest> = Vec::new();
        for shard in self.disk.list(&self.folder)? {
            let names = self.disk.list_names(&shard)?;
            groups.extend(names.iter().filter_map(|name| name.parse::<Digest>().ok()));
        }
        groups.sort_unstable();
        Ok(groups)
    }
}
