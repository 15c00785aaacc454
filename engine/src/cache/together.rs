//! Many files written at once: each appears whole or not at all, and their syncs are made at the
//! same time.
//!
//! A journalling file system writes its journal once for all syncs that wait for it. One after the
//! other, some hundred small files a second can be made durable; together, some ten thousand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, DiskError, folder_of};

/// Syncs that wait at the same time. More do not make the journal faster.
const SYNCS: usize = 16;

impl Disk {
    /// Writes files, replacing those that are there, and syncs these folders as well.
    ///
    /// # Errors
    /// The first [`DiskError`]; then none, some or all of the files are there, and each that is may
    /// be lost in a power cut.
    pub(crate) fn write_together(
        &self,
        files: &[(PathBuf, Arc<[u8]>)],
        folders: BTreeSet<PathBuf>,
    ) -> Result<(), DiskError> {
        if let ([(path, bytes)], true) = (files, folders.is_empty()) {
            return self.write(path, bytes);
        }
        let targets: BTreeSet<&Path> = files.iter().map(|(path, _)| folder_of(path)).collect();
        self.create_folders(&targets)?;
        let jobs: Vec<(PathBuf, &Path, &[u8])> = files
            .iter()
            .map(|(path, bytes)| {
                (
                    self.temporary_for(folder_of(path)),
                    path.as_path(),
                    bytes.as_ref(),
                )
            })
            .collect();
        let written = at_once(&jobs, |(temporary, _, bytes)| {
            self.write_synced(temporary, bytes)
        })
        .and_then(|()| {
            jobs.iter()
                .try_for_each(|(temporary, path, _)| self.rename_unsynced(temporary, path))
        });
        let mut folders = folders;
        folders.extend(targets.into_iter().map(Path::to_path_buf));
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        let written = written.and_then(|()| at_once(&folders, |folder| self.sync_folder(folder)));
        if written.is_err() {
            jobs.iter()
                .for_each(|(temporary, ..)| drop(fs::remove_file(temporary)));
        }
        written
    }
}

/// Does every job, several at a time; the first error is the answer, and no job is begun after it.
fn at_once<T: Sync>(
    jobs: &[T],
    act: impl Fn(&T) -> Result<(), DiskError> + Sync,
) -> Result<(), DiskError> {
    if jobs.len() < 3 {
        return jobs.iter().try_for_each(act);
    }
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<DiskError>> = Mutex::new(None);
    let slot = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..SYNCS.min(jobs.len()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = act(job) {
                        next.store(jobs.len(), Ordering::Relaxed);
                        slot().get_or_insert(error);
                    }
                }
            });
        }
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_there_with_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = |number: usize| {
            let path = folder.path().join(format!("{}/{number}", number % 7));
            (path, Arc::from(number.to_string().into_bytes()))
        };
        let files: Vec<(PathBuf, Arc<[u8]>)> = (0..100).map(file).collect();
        Disk::default()
            .write_together(&files, BTreeSet::new())
            .unwrap();
        for (path, bytes) in &files {
            assert_eq!(fs::read(path).unwrap(), bytes.as_ref());
        }
        let found: usize = (0..7)
            .map(|part| {
                fs::read_dir(folder.path().join(part.to_string()))
                    .unwrap()
                    .count()
            })
            .sum();
        assert_eq!(found, 100, "no temporary file is left");
    }
}
