//! Immutable bytes named by their digest: `objects/aa/<digest>`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::damaged::Damaged;
use super::disk::{Disk, DiskError};
use crate::digest::Digest;

/// The folder of objects. A wrong object is moved to `damaged/`, never deleted, and is then simply
/// missing.
#[derive(Debug)]
pub struct Objects {
    folder: PathBuf,
    damaged: Damaged,
    disk: Disk,
    /// Objects whose bytes this process has hashed, so that streaming readers pay for it once.
    verified: Mutex<BTreeSet<Digest>>,
    /// What is to be made durable together, before a record that needs it is written.
    pending: Mutex<Pending>,
    /// Held by whoever makes it durable.
    flushing: Mutex<()>,
}

/// Small objects that are in memory only, and folders whose objects may not outlive a power cut
/// yet.
#[derive(Debug, Default)]
struct Pending {
    objects: HashMap<Digest, Arc<[u8]>>,
    bytes: usize,
    folders: BTreeSet<PathBuf>,
}

/// Larger objects are written at once.
const PENDING_OBJECT_BYTES_MAX: usize = 1 << 20;
/// When this much is pending, whoever adds to it makes it durable first.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// Why an object could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not there, or its bytes were wrong and have been set aside.
    #[error("the object {} is missing or damaged", .0.short())]
    Missing(Digest),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Reading failed.
    #[error("could not read {}: {source}", path.display())]
    Read {
        /// The object's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Objects {
    /// The objects below `cache`.
    pub fn new(cache: &Path, disk: Disk, damaged: Damaged) -> Self {
        Self {
            folder: cache.join("objects"),
            damaged,
            disk,
            verified: Mutex::default(),
            pending: Mutex::default(),
            flushing: Mutex::default(),
        }
    }

    /// Where an object is, if it is there.
    pub fn place(&self, digest: &Digest) -> PathBuf {
        sharded(&self.folder, digest)
    }

    /// Whether an object of that name is there. Its bytes are not looked at, but one without any,
    /// as a disk that was full or a file system that was repaired leaves it, is none.
    pub fn contains(&self, digest: &Digest) -> bool {
        let filled =
            |file: fs::Metadata| file.is_file() && (file.len() > 0 || *digest == Digest::of(b""));
        self.pending().objects.contains_key(digest)
            || fs::metadata(self.place(digest)).is_ok_and(filled)
    }

    /// Stores bytes under their digest. Small objects can be read at once, and are on the disk
    /// after [`Objects::flush`].
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, DiskError> {
        let digest = Digest::of(bytes);
        if self.pending().objects.contains_key(&digest) || self.keeps(&digest)? {
            return Ok(digest);
        }
        if bytes.len() > PENDING_OBJECT_BYTES_MAX {
            let place = self.place(&digest);
            self.settle(&place, self.disk.write(&place, bytes))?;
            self.lock_verified().insert(digest);
            return Ok(digest);
        }
        let full = {
            let mut pending = self.pending();
            if pending.objects.insert(digest, Arc::from(bytes)).is_none() {
                pending.bytes += bytes.len();
            }
            pending.bytes > PENDING_BYTES_MAX
        };
        if full {
            self.flush()?;
        }
        Ok(digest)
    }

    /// Makes everything durable that was put so far.
    ///
    /// # Errors
    /// [`DiskError`]; what was pending still is.
    pub fn flush(&self) -> Result<(), DiskError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (objects, folders) = {
            let mut pending = self.pending();
            let mut objects: Vec<(Digest, Arc<[u8]>)> = pending
                .objects
                .iter()
                .map(|(digest, bytes)| (*digest, Arc::clone(bytes)))
                .collect();
            objects.sort_unstable_by_key(|(digest, _)| *digest);
            (objects, std::mem::take(&mut pending.folders))
        };
        let files: Vec<(PathBuf, Arc<[u8]>)> = objects
            .iter()
            .map(|(digest, bytes)| (self.place(digest), Arc::clone(bytes)))
            .collect();
        if files.is_empty() && folders.is_empty() {
            return Ok(());
        }
        let written = self.disk.write_together(&files, folders.clone());
        if written.is_err() {
            files
                .iter()
                .for_each(|(place, _)| drop(fs::remove_file(place)));
            self.pending().folders.extend(folders);
            return written;
        }
        self.lock_verified()
            .extend(objects.iter().map(|(digest, _)| *digest));
        let mut pending = self.pending();
        for (digest, bytes) in &objects {
            if pending.objects.remove(digest).is_some() {
                pending.bytes -= bytes.len();
            }
        }
        Ok(())
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a file in; it must lie on the cache's own file system (a stage's scratch folder does).
    ///
    /// # Errors
    /// [`ObjectError::Read`] when the file cannot be read, else [`DiskError`].
    pub fn put_file(&self, path: &Path) -> Result<Digest, ObjectError> {
        let read = |source| ObjectError::Read {
            path: path.to_path_buf(),
            source,
        };
        let (digest, _) = Digest::of_file(path).map_err(read)?;
        if self.keeps(&digest)? {
            return Ok(digest);
        }
        self.disk.sync_all(path)?;
        let place = self.place(&digest);
        if let Some(folder) = place.parent() {
            self.disk.create_folder(folder)?;
        }
        self.settle(&place, self.disk.rename(path, &place))?;
        self.lock_verified().insert(digest);
        Ok(digest)
    }

    /// Whether an object is there already, right and on the disk. A wrong one is set aside, so that
    /// what a stage has just made is never taken for what somebody else left damaged.
    fn keeps(&self, digest: &Digest) -> Result<bool, DiskError> {
        let place = self.place(digest);
        if self.lock_verified().contains(digest) && place.is_file() {
            return Ok(true);
        }
        match Digest::of_file(&place) {
            Ok((found, _)) if found == *digest => {
                // Whoever wrote it may not have come to syncing the folder.
                self.pending()
                    .folders
                    .extend(place.parent().map(Path::to_path_buf));
                self.lock_verified().insert(*digest);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            _ => {
                self.set_aside(digest);
                Ok(false)
            }
        }
    }

    /// An object whose folder could not be synced is not kept: after a failed sync nobody knows
    /// what is on the disk, and the next attempt is to write it from its bytes.
    fn settle(&self, place: &Path, written: Result<(), DiskError>) -> Result<(), DiskError> {
        if written.is_err() {
            let _ = fs::remove_file(place);
        }
        written
    }

    /// The bytes of an object, checked against its name.
    ///
    /// # Errors
    /// [`ObjectError::Missing`] when it is not there or was wrong.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        if let Some(bytes) = self.pending().objects.get(digest) {
            return Ok(bytes.to_vec());
        }
        let path = self.place(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ObjectError::Missing(*digest));
            }
            Err(_) if path.is_dir() => return Err(self.set_aside(digest)),
            Err(source) => return Err(ObjectError::Read { path, source }),
        };
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(self.set_aside(digest))
        }
    }

    /// The file of an object, for readers that stream; its bytes are checked once a process.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn path(&self, digest: &Digest) -> Result<PathBuf, ObjectError> {
        if self.pending().objects.contains_key(digest) {
            self.flush()?;
        }
        let path = self.place(digest);
        if self.lock_verified().contains(digest) && path.is_file() {
            return Ok(path);
        }
        match Digest::of_file(&path) {
            Ok((found, _)) if found == *digest => {
                self.lock_verified().insert(*digest);
                Ok(path)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ObjectError::Missing(*digest))
            }
            Err(source) if !path.is_dir() => Err(ObjectError::Read { path, source }),
            _ => Err(self.set_aside(digest)),
        }
    }

    fn lock_verified(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        self.verified
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Moves wrong bytes out of the way, for whoever wants to look at them.
    fn set_aside(&self, digest: &Digest) -> ObjectError {
        self.lock_verified().remove(digest);
        let place = self.place(digest);
        let aside = self
            .damaged
            .set_aside_quietly(&place, "its bytes do not match its name");
        // Between our reading it and our moving it, another process may have put it right.
        if let Some(aside) =
            aside.filter(|aside| Digest::of_file(aside).is_ok_and(|(found, _)| found == *digest))
            && let Err(error) = self.disk.rename(&aside, &place)
        {
            tracing::warn!(%error, "an object that is right could not be moved back: it will be made again");
        }
        ObjectError::Missing(*digest)
    }
}

/// `folder/aa/aabbcc…`: at most 256 folders, each small enough to list.
pub(crate) fn sharded(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.hex();
    folder.join(name.get(..2).unwrap_or_default()).join(&*name)
}
