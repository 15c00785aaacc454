//! Checkpoints: what a training stage needs to resume where it stopped,
//! `checkpoints/<key>/<step>/`. A checkpoint is complete or not there.

use std::fs;
use std::io;
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
    /// A file could not be read back.
    #[error("could not read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
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
    pub(crate) fn warm_start_values(cache: &Path, rest: &Digest) -> Vec<u64> {
        file_names(&warm_start_folder(cache, rest))
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    /// The newest checkpoint whose files are all as they were written. Newer ones are moved away.
    pub fn latest(&self) -> Option<Checkpoint> {
        for step in self.steps().into_iter().rev() {
            let folder = self.step_folder(step);
            match validate(&folder) {
                Ok(()) => return Some(Checkpoint { step, folder }),
                Err(error) => {
                    let why = format!("corrupt checkpoint ({error})");
                    self.corrupt.move_in_or_warn(&folder, &why);
                }
            }
        }
        None
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
        for name in file_names(temporary) {
            let path = temporary.join(&name);
            let digest = match Digest::of_file(&path) {
                Ok((digest, _)) => digest,
                Err(source) => return Err(CheckpointError::Read { path, source }),
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
        let steps = self.steps();
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
        let Some(newest) = self.latest() else {
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

    fn steps(&self) -> Vec<u64> {
        let mut steps: Vec<u64> = file_names(&self.folder)
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }
}

fn warm_start_folder(cache: &Path, rest: &Digest) -> PathBuf {
    cache.join("growth").join(rest.to_string())
}

/// Checks the digests of all files of a checkpoint.
///
/// # Errors
/// A description of the first problem.
pub(crate) fn validate(folder: &Path) -> Result<(), String> {
    check_files(folder, check_digest)
}

/// The same, but reads only files that were modified after the manifest was written.
///
/// # Errors
/// A description of the first problem.
pub(crate) fn validate_modified(folder: &Path) -> Result<(), String> {
    let saved = folder
        .join(MANIFEST)
        .metadata()
        .and_then(|manifest| manifest.modified())
        .ok();
    check_files(folder, |path, digest| {
        let file = path.metadata().map_err(|error| error.to_string())?;
        if file.len() == 0 && *digest != Digest::of(b"") {
            return Err("it is empty".to_owned());
        }
        if file.modified().ok() > saved {
            return check_digest(path, digest);
        }
        Ok(())
    })
}

fn check_digest(path: &Path, digest: &Digest) -> Result<(), String> {
    match Digest::of_file(path) {
        Ok((found, _)) if found == *digest => Ok(()),
        Ok(_) => Err("digest mismatch".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Applies `check` to every file in the manifest of a checkpoint.
fn check_files(
    folder: &Path,
    check: impl Fn(&Path, &Digest) -> Result<(), String>,
) -> Result<(), String> {
    let files = read_manifest(folder).map_err(|error| format!("{MANIFEST}: {error}"))?;
    for (name, digest) in files {
        check(&folder.join(&name), &digest).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn read_manifest(folder: &Path) -> Result<Vec<(String, Digest)>, String> {
    let bytes = fs::read(folder.join(MANIFEST)).map_err(|error| error.to_string())?;
    checksummed::decode_json(&bytes).map_err(|error| error.to_string())
}

/// The names in a folder, sorted; empty when there is no such folder.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
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
        assert_eq!(checkpoints.latest(), None);
        for step in [5, 10, 100] {
            save(&checkpoints, step);
        }
        assert_eq!(checkpoints.steps(), [10, 100], "two are kept");
        let newest = checkpoints.latest().unwrap();
        assert_eq!(newest.step, 100);
        fs::write(newest.folder.join("state"), "garbage").unwrap();
        assert_eq!(checkpoints.latest().unwrap().step, 10);
        assert!(!newest.folder.exists(), "the corrupt one is moved away");
        checkpoints.clear().unwrap();
        assert_eq!(checkpoints.latest(), None);
    }

    #[test]
    fn a_writer_that_fails_leaves_the_previous_one() {
        let cache = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(cache.path());
        save(&checkpoints, 1);
        let failed = checkpoints.save(2, |_| Err("no"));
        assert!(matches!(failed, Err(CheckpointError::Writer("no"))));
        assert_eq!(checkpoints.latest().unwrap().step, 1);
    }
}
