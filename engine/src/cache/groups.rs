//! Groups: files named by their digest that hold many small results, `units/aa/<digest>` and
//! `files/aa/<digest>`.
//!
//! A group has the bytes of a [`Chunk`], so it lists its own content, and an index can be filled
//! from the folder.

use std::fs;
use std::io;
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
        if fs::read(&path).is_ok_and(|existing| existing == bytes) {
            // The process that wrote it may have died before it synced the folder.
            self.disk.sync_folder(folder_of(&path))?;
            return Ok(group);
        }
        // Something else has its name: a corrupt file, which is kept, or a folder, which a rename
        // would not replace.
        if path.symlink_metadata().is_ok() {
            self.corrupt.move_in(&path)?;
        }
        self.disk.write(&path, &bytes)?;
        Ok(group)
    }

    /// A group. A corrupt one is moved away and counts as missing.
    pub(crate) fn get(&self, group: &Digest) -> Option<Chunk> {
        let path = self.path(group);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(_) => {
                self.corrupt.move_in_or_warn(&path, "unreadable group");
                return None;
            }
        };
        if Digest::of(&bytes) == *group
            && let Ok(chunk) = Chunk::decode(&bytes)
        {
            return Some(chunk);
        }
        self.corrupt.move_in_or_warn(&path, "corrupt group");
        None
    }

    fn path(&self, group: &Digest) -> PathBuf {
        sharded(&self.folder, group)
    }

    /// All groups that exist, sorted.
    pub(crate) fn list(&self) -> Vec<Digest> {
        let mut groups: Vec<Digest> = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let name = entry.file_name();
                groups.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
            }
        }
        groups.sort_unstable();
        groups
    }
}
