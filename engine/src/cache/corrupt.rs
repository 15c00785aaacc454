//! Where corrupt files go: `corrupt/`, for people who want to inspect them. Nothing is ever deleted
//! because it is corrupt.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskError};
use super::identity;

/// The name of the folder in a cache.
pub(crate) const FOLDER: &str = "corrupt";
/// Its name in caches of earlier versions. Nothing is added there any more.
pub(crate) const FOLDER_BEFORE: &str = "damaged";

/// The folder of corrupt files of a cache.
#[derive(Clone, Debug)]
pub struct CorruptFolder {
    cache: PathBuf,
    /// `None` for readers, who leave everything as it is.
    disk: Option<Disk>,
}

impl CorruptFolder {
    pub fn new(cache: &Path, disk: Disk) -> Self {
        Self {
            cache: cache.to_path_buf(),
            disk: Some(disk),
        }
    }

    /// For readers: corrupt files are left where they are.
    pub fn read_only(cache: &Path) -> Self {
        Self {
            cache: cache.to_path_buf(),
            disk: None,
        }
    }

    /// Moves a file or folder of the cache here, and says where it is now; `None` when it was left
    /// in place or is gone.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn move_in(&self, path: &Path) -> Result<Option<PathBuf>, DiskError> {
        let Some(disk) = &self.disk else {
            return Ok(None);
        };
        let folder = self.cache.join(FOLDER);
        disk.create_folder(&folder)?;
        let target = free_name(&folder, &self.flat_name(path));
        match disk.rename(path, &target) {
            Ok(()) => Ok(Some(target)),
            // Another process or thread has moved it already.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for readers of the cache. A failure is only logged: the file counts as missing
    /// either way.
    pub(crate) fn move_in_or_warn(&self, path: &Path, why: &str) -> Option<PathBuf> {
        tracing::warn!(path = %path.display(), "{why}: moved to {FOLDER}/");
        self.move_in(path).unwrap_or_else(|error| {
            tracing::warn!(%error, "a corrupt file could not be moved");
            None
        })
    }

    /// The path in the cache with `-` for `/`.
    fn flat_name(&self, path: &Path) -> String {
        let inner = path.strip_prefix(&self.cache).unwrap_or(path);
        let parts: Vec<_> = inner.iter().map(OsStr::to_string_lossy).collect();
        parts.join("-")
    }
}

/// Whether the name of a file or folder is one that [`CorruptFolder::move_in`] gives.
pub(crate) fn is_name_of_corrupt_file(name: &str) -> bool {
    let (part, _) = name.split_once(['-', '.']).unwrap_or((name, ""));
    let folders = identity::SHARDED.iter().chain(&identity::NAMED_BY_DIGEST);
    folders
        .chain(&["index", "version"])
        .any(|known| *known == part)
}

/// The name itself, or with the first number that makes it one that is not taken.
fn free_name(folder: &Path, name: &str) -> PathBuf {
    let numbered = (2..).map(|number| folder.join(format!("{name}.{number}")));
    std::iter::once(folder.join(name))
        .chain(numbered)
        .find(|path| path.symlink_metadata().is_err())
        .expect("numbers do not run out")
}
