//! Immutable bytes named by their digest: `objects/aa/<digest>`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::corrupt::CorruptFolder;
use super::disk::{Disk, DiskError, Syscall, folder_of};
use crate::digest::Digest;

/// Larger objects are written at once.
const PENDING_OBJECT_BYTES_MAX: usize = 1 << 20;
/// When more than this is pending, `put` flushes.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// The folder of objects. A corrupt object is moved to `corrupt/`, and is missing from then on.
#[derive(Debug)]
pub struct Objects {
    folder: PathBuf,
    corrupt: CorruptFolder,
    disk: Disk,
    /// Objects whose bytes this process has hashed, so that readers of large files hash them once.
    verified: Mutex<BTreeSet<Digest>>,
    /// What `flush` makes durable, before a record that needs it is written.
    pending: Mutex<Pending>,
    /// One flush at a time. Otherwise a second one could return before the folders that the first
    /// one took from `pending` are synced.
    flushing: Mutex<()>,
}

/// What would be lost in a power cut: small objects that are only in memory, and folders with
/// objects whose names may not be on the disk yet.
#[derive(Debug, Default)]
struct Pending {
    objects: HashMap<Digest, Arc<[u8]>>,
    bytes: usize,
    folders: BTreeSet<PathBuf>,
}

/// Why an object cannot be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It does not exist, or was corrupt and has been moved away.
    #[error("object {} is missing or corrupt", .0.short())]
    Missing(Digest),
    /// It cannot be read or written. That says nothing about its bytes.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Objects {
    pub fn new(cache: &Path, disk: Disk, corrupt: CorruptFolder) -> Self {
        Self {
            folder: cache.join("objects"),
            corrupt,
            disk,
            verified: Mutex::default(),
            pending: Mutex::default(),
            flushing: Mutex::default(),
        }
    }

    /// The file of an object, whether it exists or not.
    pub fn file_path(&self, digest: &Digest) -> PathBuf {
        sharded(&self.folder, digest)
    }

    /// Whether an object exists. Its bytes are not read, but an empty file, as a full disk or a
    /// repaired file system leaves it, does not count.
    ///
    /// # Errors
    /// [`DiskError`] when that is not known.
    pub fn contains(&self, digest: &Digest) -> Result<bool, DiskError> {
        if self.lock_pending().objects.contains_key(digest) {
            return Ok(true);
        }
        let file = self.disk.metadata(&self.file_path(digest))?;
        Ok(file
            .is_some_and(|file| file.is_file() && (file.len() > 0 || *digest == Digest::of(b""))))
    }

    /// Stores bytes under their digest. A small object can be read at once, and is on the disk
    /// after [`Objects::flush`].
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, DiskError> {
        let digest = Digest::of(bytes);
        if self.lock_pending().objects.contains_key(&digest) || self.is_stored(&digest)? {
            return Ok(digest);
        }
        if bytes.len() > PENDING_OBJECT_BYTES_MAX {
            let path = self.file_path(&digest);
            self.disk
                .write(&path, bytes)
                .inspect_err(|_| remove_unsynced(&path))?;
            self.lock_verified().insert(digest);
            return Ok(digest);
        }
        let is_full = {
            let mut pending = self.lock_pending();
            if pending.objects.insert(digest, Arc::from(bytes)).is_none() {
                pending.bytes += bytes.len();
            }
            pending.bytes > PENDING_BYTES_MAX
        };
        if is_full {
            self.flush()?;
        }
        Ok(digest)
    }

    /// Makes everything durable that was put so far.
    ///
    /// # Errors
    /// [`DiskError`]; what was pending still is.
    pub fn flush(&self) -> Result<(), DiskError> {
        let _guard = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (objects, folders) = {
            let mut pending = self.lock_pending();
            let mut objects: Vec<(Digest, Arc<[u8]>)> = pending
                .objects
                .iter()
                .map(|(digest, bytes)| (*digest, Arc::clone(bytes)))
                .collect();
            // The map's order differs from process to process; the order of writes should not.
            objects.sort_unstable_by_key(|(digest, _)| *digest);
            (objects, std::mem::take(&mut pending.folders))
        };
        if objects.is_empty() && folders.is_empty() {
            return Ok(());
        }
        let files: Vec<(PathBuf, Arc<[u8]>)> = objects
            .iter()
            .map(|(digest, bytes)| (self.file_path(digest), Arc::clone(bytes)))
            .collect();
        if let Err(error) = self.disk.write_batch(&files, folders.clone()) {
            for (path, _) in &files {
                remove_unsynced(path);
            }
            self.lock_pending().folders.extend(folders);
            return Err(error);
        }
        self.lock_verified()
            .extend(objects.iter().map(|(digest, _)| *digest));
        // Only now: until they are on the disk, readers find them in memory.
        let mut pending = self.lock_pending();
        for (digest, bytes) in &objects {
            if pending.objects.remove(digest).is_some() {
                pending.bytes -= bytes.len();
            }
        }
        Ok(())
    }

    fn lock_pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_verified(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a file in. It must be on the cache's own file system, as a stage's scratch folder is.
    ///
    /// # Errors
    /// [`ObjectError::Disk`], also when the file cannot be read.
    pub fn put_file(&self, path: &Path) -> Result<Digest, ObjectError> {
        let digest = self.disk.digest_of(path)?.ok_or_else(|| DiskError {
            call: Syscall::Read,
            path: path.to_path_buf(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        if self.is_stored(&digest)? {
            return Ok(digest);
        }
        self.disk.sync_all(path)?;
        let target = self.file_path(&digest);
        self.disk.create_folder(folder_of(&target))?;
        self.disk
            .rename(path, &target)
            .inspect_err(|_| remove_unsynced(&target))?;
        self.lock_verified().insert(digest);
        Ok(digest)
    }

    /// Whether an object is in the cache with the right bytes. A corrupt one is moved away: a stage
    /// that has just computed the right bytes must not end with the corrupt ones. One that cannot
    /// be read is replaced.
    fn is_stored(&self, digest: &Digest) -> Result<bool, DiskError> {
        let path = self.file_path(digest);
        if self.lock_verified().contains(digest) && path.is_file() {
            return Ok(true);
        }
        match self.disk.digest_of(&path) {
            Ok(Some(found)) if found == *digest => {
                // The process that wrote it may have died before it synced the folder.
                self.lock_pending()
                    .folders
                    .insert(folder_of(&path).to_path_buf());
                self.lock_verified().insert(*digest);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) if !error.is_a_folder() => Ok(false),
            Ok(Some(_)) | Err(_) => {
                self.move_to_corrupt(digest);
                Ok(false)
            }
        }
    }

    /// The bytes of an object, checked against its digest.
    ///
    /// # Errors
    /// [`ObjectError::Missing`] when it does not exist or was corrupt.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, ObjectError> {
        if let Some(bytes) = self.lock_pending().objects.get(digest) {
            return Ok(bytes.to_vec());
        }
        let path = self.file_path(digest);
        match self.disk.read(&path) {
            Ok(Some(bytes)) if Digest::of(&bytes) == *digest => Ok(bytes),
            Ok(Some(_)) => Err(self.move_to_corrupt(digest)),
            Ok(None) => Err(ObjectError::Missing(*digest)),
            Err(error) => Err(self.unreadable(digest, error)),
        }
    }

    /// The file of an object, for readers of large files. Its bytes are checked once a process.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn verified_path(&self, digest: &Digest) -> Result<PathBuf, ObjectError> {
        if self.lock_pending().objects.contains_key(digest) {
            self.flush()?;
        }
        let path = self.file_path(digest);
        if self.lock_verified().contains(digest) && path.is_file() {
            return Ok(path);
        }
        match self.disk.digest_of(&path) {
            Ok(Some(found)) if found == *digest => {
                self.lock_verified().insert(*digest);
                Ok(path)
            }
            Ok(Some(_)) => Err(self.move_to_corrupt(digest)),
            Ok(None) => Err(ObjectError::Missing(*digest)),
            Err(error) => Err(self.unreadable(digest, error)),
        }
    }

    /// An object whose file gave an error. A folder under its name is corrupt; any other error says
    /// nothing about the bytes.
    fn unreadable(&self, digest: &Digest, error: DiskError) -> ObjectError {
        if error.is_a_folder() {
            self.move_to_corrupt(digest)
        } else {
            ObjectError::Disk(error)
        }
    }

    fn move_to_corrupt(&self, digest: &Digest) -> ObjectError {
        self.lock_verified().remove(digest);
        let path = self.file_path(digest);
        let moved_to = self.corrupt.move_in_or_warn(&path, "digest mismatch");
        // Between reading the file and moving it, another process may have replaced it by a right
        // one. Then that one was moved, and goes back.
        if let Some(moved_to) = moved_to
            && self.disk.digest_of(&moved_to).ok().flatten() == Some(*digest)
            && let Err(error) = self.disk.rename(&moved_to, &path)
        {
            tracing::warn!(%error, "a valid object could not be moved back; it will be recomputed");
        }
        ObjectError::Missing(*digest)
    }
}

/// Removes a file whose write failed, maybe only in the last sync. It could be read now and be gone
/// after a power cut, so no record may refer to it; the next attempt writes it from its bytes.
fn remove_unsynced(path: &Path) {
    let _ = fs::remove_file(path);
}

/// `folder/aa/aabbcc…`: at most 256 folders, each small enough to list.
pub(crate) fn sharded(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.hex();
    folder.join(name.get(..2).unwrap_or_default()).join(&*name)
}
