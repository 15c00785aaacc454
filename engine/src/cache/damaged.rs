//! Where wrong files go: `damaged/`, for whoever wants to look at them. Nothing is ever deleted
//! because it is damaged.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskError};

/// The folder of damaged files.
#[derive(Clone, Debug)]
pub struct Damaged {
    cache: PathBuf,
    /// Nothing for readers, who leave everything as it is.
    disk: Option<Disk>,
}

impl Damaged {
    /// The folder below `cache`.
    pub fn new(cache: &Path, disk: Disk) -> Self {
        Self {
            cache: cache.to_path_buf(),
            disk: Some(disk),
        }
    }

    /// For readers: damaged files are left where they are.
    pub fn untouched(cache: &Path) -> Self {
        Self {
            cache: cache.to_path_buf(),
            disk: None,
        }
    }

    /// Moves a file or folder of the cache out of the way, and says where it is now; nothing when
    /// it was left or is gone.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn set_aside(&self, path: &Path) -> Result<Option<PathBuf>, DiskError> {
        let Some(disk) = &self.disk else {
            return Ok(None);
        };
        let folder = self.cache.join("damaged");
        disk.create_folder(&folder)?;
        let inner = path.strip_prefix(&self.cache).unwrap_or(path);
        let parts: Vec<_> = inner
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        let name = parts.join("-");
        let numbered = (2..).map(|number| folder.join(format!("{name}.{number}")));
        let mut places = std::iter::once(folder.join(&name)).chain(numbered);
        let place = places
            .find(|place| place.symlink_metadata().is_err())
            .expect("numbers do not run out");
        match disk.rename(path, &place) {
            Ok(()) => Ok(Some(place)),
            // Somebody else was faster.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for readers of the cache, to whom the file is missing one way or the other.
    pub(crate) fn set_aside_quietly(&self, path: &Path, why: &str) -> Option<PathBuf> {
        tracing::warn!(path = %path.display(), "{why}: set aside in damaged/");
        self.set_aside(path).unwrap_or_else(|error| {
            tracing::warn!(%error, "a damaged file could not be set aside");
            None
        })
    }
}
