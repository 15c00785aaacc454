//! Checkpoints: what a training stage needs to resume where it stopped,
//! `checkpoints/<key>/<step>/`. A checkpoint is complete or not there.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::checksummed;
use super::corrupt::CorruptFolder;
use super::disk::{Disk, DiskError};
use crate::digest::Digest;

/// Names and digests of a checkpoint's files. It is written last.
const MANIFEST: &str = "manifest.json";
/// The newest may be corrupted by a dying disk; the one before it is the fallback.
const KEPT: usize = 2;

/// The checkpoints of one stage, or its warm start.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    disk: Disk,
    corrupt: CorruptFolder,
}

/// A complete checkpoint whose digests were checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Steps done when it was saved.
    pub step: u64,
    pub folder: PathBuf,
}

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError<E> {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The stage could not write its state.
    #[error("{0}")]
    Writer(E),
}

impl Checkpoints {
    /// The checkpoints of the stage with this key.
    pub fn new(cache: &Path, key: &Digest, disk: Disk, corrupt: CorruptFolder) -> Self {
        Self {
            folder: cache.join("checkpoints").join(key.to_string()),
            disk,
            corrupt,
        }
    }

    /// The final state of a stage that has `value` for its growing argument. Stages that differ in
    /// that argument only share the digest of the `rest`: `growth/<rest>/<value>`.
    pub(crate) fn for_warm_start(
        cache: &Path,
        rest: &Digest,
        value: u64,
        disk: Disk,
        corrupt: CorruptFolder,
    ) -> Self {
        Self {
            folder: warm_start_folder(cache, rest).join(format!("{value:012}")),
            disk,
            corrupt,
        }
    }

    /// The values of the growing argument for which there is a final state, ascending.
    ///
    /// # Errors
    /// [`DiskError`] when they cannot be listed.
    pub(crate) fn warm_start_values(
        disk: &Disk,
        cache: &Path,
        rest: &Digest,
    ) -> Result<Vec<u64>, DiskError> {
        numbers_in(&warm_start_folder(cache, rest), disk)
    }

    /// The newest checkpoint whose files are all as they were written. Newer ones are moved away.
    ///
    /// # Errors
    /// [`DiskError`] when one cannot be read: an older one would repeat work.
    pub fn latest(&self) -> Result<Option<Checkpoint>, DiskError> {
        for step in self.steps()?.into_iter().rev() {
            let folder = self.step_folder(step);
            match validate(&folder, &self.disk) {
                Ok(()) => return Ok(Some(Checkpoint { step, folder })),
                Err(InvalidCheckpoint::Unreadable(error)) => return Err(error),
                Err(InvalidCheckpoint::Corrupt(detail)) => {
                    let why = format!("corrupt checkpoint ({detail})");
                    self.corrupt.move_in_or_warn(&folder, &why);
                }
            }
        }
        Ok(None)
    }

    /// Saves a checkpoint: `write` puts files into the folder it is given. The newest two are kept.
    ///
    /// # Errors
    /// [`CheckpointError`]; earlier checkpoints stay as they are.
    pub fn save<E>(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), CheckpointError<E>> {
        self.disk.create_folder(&self.folder)?;
        let temporary = self.disk.temporary_for(&self.folder);
        self.disk.create_temporary_folder(&temporary)?;
        let saved = write(&temporary)
            .map_err(CheckpointError::Writer)
            .and_then(|()| self.publish(&temporary, step));
        if saved.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        saved
    }

    /// Gives the files of a new checkpoint a manifest and their place. Everything is synced before
    /// the rename, which is the commit; older checkpoints are removed only after it.
    fn publish<E>(&self, temporary: &Path, step: u64) -> Result<(), CheckpointError<E>> {
        let mut manifest = Vec::new();
        for name in self.disk.list_names(temporary)? {
            let path = temporary.join(&name);
            let Some(digest) = self.disk.digest_of(&path)? else {
                continue;
            };
            self.disk.sync_all(&path)?;
            manifest.push((name, digest));
        }
        let manifest = checksummed::encode_json(&manifest);
        self.disk
            .write_synced(&temporary.join(MANIFEST), &manifest)?;
        self.disk.sync_folder(temporary)?;
        let target = self.step_folder(step);
        // A folder with files in it cannot be replaced by a rename.
        self.disk.remove(&target)?;
        self.disk.rename(temporary, &target)?;
        let steps = self.steps()?;
        let old_count = steps.len().saturating_sub(KEPT);
        for step in steps.into_iter().take(old_count) {
            self.disk.remove(&self.step_folder(step))?;
        }
        Ok(())
    }

    /// Moves the newest checkpoint to another place, replacing what is there.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(crate) fn move_newest_to(&self, target: &Checkpoints) -> Result<(), DiskError> {
        let Some(newest) = self.latest()? else {
            return Ok(());
        };
        self.disk.create_folder(&target.folder)?;
        let folder = target.step_folder(newest.step);
        self.disk.remove(&folder)?;
        self.disk.rename(&newest.folder, &folder)
    }

    /// Removes all of them: the stage has its result.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn clear(&self) -> Result<(), DiskError> {
        self.disk.remove(&self.folder)
    }

    fn step_folder(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{step:012}"))
    }

    fn steps(&self) -> Result<Vec<u64>, DiskError> {
        numbers_in(&self.folder, &self.disk)
    }
}

/// The names in a folder that are numbers, ascending.
fn numbers_in(folder: &Path, disk: &Disk) -> Result<Vec<u64>, DiskError> {
    let names = disk.list_names(folder)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Why a checkpoint cannot be used.
#[derive(Debug)]
pub(crate) enum InvalidCheckpoint {
    /// The first file that is not as it was written, and how it differs.
    Corrupt(String),
    /// Whether it is corrupt is not known.
    Unreadable(DiskError),
}

impl InvalidCheckpoint {
    fn corrupt(name: &str, detail: impl fmt::Display) -> Self {
        InvalidCheckpoint::Corrupt(format!("{name}: {detail}"))
    }

    /// A file of a checkpoint that gave an error.
    fn of_error(name: &str, error: DiskError) -> Self {
        if error.is_a_folder() {
            Self::corrupt(name, "it is not a file")
        } else {
            InvalidCheckpoint::Unreadable(error)
        }
    }
}

fn warm_start_folder(cache: &Path, rest: &Digest) -> PathBuf {
    cache.join("growth").join(rest.to_string())
}

/// Checks the digests of all files of a checkpoint.
///
/// # Errors
/// The first problem.
pub(crate) fn validate(folder: &Path, disk: &Disk) -> Result<(), InvalidCheckpoint> {
    for (name, digest) in read_manifest(folder, disk)? {
        check_digest(folder, &name, &digest, disk)?;
    }
    Ok(())
}

/// The same, but reads only files that were modified after the manifest was written.
///
/// # Errors
/// The first problem.
pub(crate) fn validate_modified(folder: &Path, disk: &Disk) -> Result<(), InvalidCheckpoint> {
    let files = read_manifest(folder, disk)?;
    let modified = |name: &str| -> Result<_, InvalidCheckpoint> {
        let metadata = disk.metadata(&folder.join(name));
        let metadata = metadata.map_err(|error| InvalidCheckpoint::of_error(name, error))?;
        let metadata = metadata.ok_or_else(|| InvalidCheckpoint::corrupt(name, MISSING))?;
        Ok((metadata.len(), metadata.modified().ok()))
    };
    let (_, saved) = modified(MANIFEST)?;
    for (name, digest) in files {
        let (len, modified) = modified(&name)?;
        if len == 0 && digest != Digest::of(b"") {
            return Err(InvalidCheckpoint::corrupt(&name, "it is empty"));
        }
        if modified > saved {
            check_digest(folder, &name, &digest, disk)?;
        }
    }
    Ok(())
}

const MISSING: &str = "it is missing";

fn check_digest(
    folder: &Path,
    name: &str,
    digest: &Digest,
    disk: &Disk,
) -> Result<(), InvalidCheckpoint> {
    match disk.digest_of(&folder.join(name)) {
        Ok(Some(found)) if found == *digest => Ok(()),
        Ok(Some(_)) => Err(InvalidCheckpoint::corrupt(name, "digest mismatch")),
        Ok(None) => Err(InvalidCheckpoint::corrupt(name, MISSING)),
        Err(error) => Err(InvalidCheckpoint::of_error(name, error)),
    }
}

fn read_manifest(folder: &Path, disk: &Disk) -> Result<Vec<(String, Digest)>, InvalidCheckpoint> {
    let bytes = disk
        .read(&folder.join(MANIFEST))
        .map_err(|error| InvalidCheckpoint::of_error(MANIFEST, error))?
        .ok_or_else(|| InvalidCheckpoint::corrupt(MANIFEST, MISSING))?;
    checksummed::decode_json(&bytes).map_err(|error| InvalidCheckpoint::corrupt(MANIFEST, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(cache: &Path) -> Checkpoints {
        Checkpoints::new(
            cache,
            &Digest::of(b"key"),
            Disk::default(),
            CorruptFolder::new(cache, Disk::default()),
        )
    }

    fn save(checkpoints: &Checkpoints, step: u64) {
        checkpoints
            .save(step, |folder| {
                fs::write(folder.join("state"), step.to_string())
            })
            .unwrap();
    }

    #[test]
    fn a_corrupt_one_falls_back_to_the_previous_one() {
        let cache = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(cache.path());
        assert_eq!(checkpoints.latest().unwrap(), None);
        for step in [5, 10, 100] {
            save(&checkpoints, step);
        }
        assert_eq!(checkpoints.steps().unwrap(), [10, 100], "two are kept");
        let newest = checkpoints.latest().unwrap().unwrap();
        assert_eq!(newest.step, 100);
        fs::write(newest.folder.join("state"), "garbage").unwrap();
        assert_eq!(checkpoints.latest().unwrap().unwrap().step, 10);
        assert!(!newest.folder.exists(), "the corrupt one is moved away");
        checkpoints.clear().unwrap();
        assert_eq!(checkpoints.latest().unwrap(), None);
    }

    #[test]
    fn a_writer_that_fails_leaves_the_previous_one() {
        let cache = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(cache.path());
        save(&checkpoints, 1);
        let failed = checkpoints.save(2, |_| Err("no"));
        assert!(matches!(failed, Err(CheckpointError::Writer("no"))));
        assert_eq!(checkpoints.latest().unwrap().unwrap().step, 1);
    }
}
