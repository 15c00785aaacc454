//! Writing many files at once: each appears whole or not at all, and their syncs overlap.
//!
//! A journalling file system writes its journal once for all syncs that wait for it. One after the
//! other, some hundred small files a second can be made durable; overlapping, some ten thousand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use super::disk::{Disk, DiskError, folder_of};

/// Syncs in flight. More do not make the journal faster.
const SYNCS_MAX: usize = 16;
/// Below this, starting threads costs more than overlapping the syncs saves.
const PARALLEL_MIN: usize = 3;

/// A file on its way to its place.
struct PendingFile<'a> {
    temporary: PathBuf,
    path: &'a Path,
    bytes: &'a [u8],
}

impl Disk {
    /// Writes files, replacing existing ones, and syncs `folders` as well.
    ///
    /// # Errors
    /// The first [`DiskError`]. Then none, some or all of the files exist, and those that do may be
    /// lost in a power cut.
    pub(crate) fn write_batch(
        &self,
        files: &[(PathBuf, Arc<[u8]>)],
        folders: BTreeSet<PathBuf>,
    ) -> Result<(), DiskError> {
        if let ([(path, bytes)], true) = (files, folders.is_empty()) {
            return self.write(path, bytes);
        }
        let targets: BTreeSet<&Path> = files.iter().map(|(path, _)| folder_of(path)).collect();
        self.create_folders(&targets)?;
        let pending: Vec<PendingFile<'_>> = files
            .iter()
            .map(|(path, bytes)| PendingFile {
                temporary: self.temporary_for(folder_of(path)),
                path,
                bytes,
            })
            .collect();
        let mut to_sync = folders;
        to_sync.extend(targets.into_iter().map(Path::to_path_buf));
        let written = self.write_pending(&pending, &Vec::from_iter(to_sync));
        if written.is_err() {
            for file in &pending {
                let _ = fs::remove_file(&file.temporary);
            }
        }
        written
    }

    /// The order of a single write, step by step for all files: all bytes are durable before the
    /// first name exists, and the folders are synced when all names do.
    fn write_pending(
        &self,
        files: &[PendingFile<'_>],
        folders: &[PathBuf],
    ) -> Result<(), DiskError> {
        in_parallel(files, |file| self.write_synced(&file.temporary, file.bytes))?;
        for file in files {
            self.rename_unsynced(&file.temporary, file.path)?;
        }
        in_parallel(folders, |folder| self.sync_folder(folder))
    }
}

/// Applies `act` to every item, several at a time. Gives the first error; no item is started after
/// it.
fn in_parallel<T: Sync>(
    items: &[T],
    act: impl Fn(&T) -> Result<(), DiskError> + Sync,
) -> Result<(), DiskError> {
    if items.len() < PARALLEL_MIN {
        return items.iter().try_for_each(act);
    }
    let next = AtomicUsize::new(0);
    let first_error: Mutex<Option<DiskError>> = Mutex::new(None);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = act(item) {
                next.store(items.len(), Ordering::Relaxed);
                first_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..SYNCS_MAX.min(items.len()) {
            // This thread works too, so that it goes on where no other can be started.
            if Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    first_error
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_exist_with_their_bytes_and_no_temporary_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = |number: usize| {
            let path = folder.path().join(format!("{}/{number}", number % 7));
            (path, Arc::from(number.to_string().into_bytes()))
        };
        let files: Vec<(PathBuf, Arc<[u8]>)> = (0..100).map(file).collect();
        Disk::default()
            .write_batch(&files, BTreeSet::new())
            .unwrap();
        for (path, bytes) in &files {
            assert_eq!(fs::read(path).unwrap(), bytes.as_ref());
        }
        let mut found = 0;
        for part in 0..7 {
            let entries = fs::read_dir(folder.path().join(part.to_string())).unwrap();
            found += entries.count();
        }
        assert_eq!(found, 100);
    }
}
