//! What a training stage needs to go on where it stopped: `checkpoints/<key>/<step>/`, whole or not
//! there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::damaged::Damaged;
use super::disk::{Disk, DiskError};
use super::sealed;
use crate::digest::Digest;

/// Names and digests of a checkpoint's files, sealed, written last.
const MANIFEST: &str = "manifest.json";
/// The newest may be damaged by a dying disk; the one before it is the fallback.
const KEPT: usize = 2;

/// The checkpoints of one stage.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    disk: Disk,
    damaged: Damaged,
}

/// A complete checkpoint, verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Steps done when it was taken.
    pub step: u64,
    /// Its files.
    pub folder: PathBuf,
}

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError<E> {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file could not be read back.
    #[error("could not read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The stage could not write its state.
    #[error("{0}")]
    Writer(E),
}

impl Checkpoints {
    /// The checkpoints of the stage with this key.
    pub fn new(cache: &Path, key: &Digest, disk: Disk, damaged: Damaged) -> Self {
        Self {
            folder: cache.join("checkpoints").join(key.to_string()),
            disk,
            damaged,
        }
    }

    /// The newest checkpoint whose files are all as they were written. Newer ones that are not are
    /// set aside.
    pub fn latest(&self) -> Option<Checkpoint> {
        let found = self.steps().into_iter().rev().map(|step| Checkpoint {
            step,
            folder: self.place(step),
        });
        for checkpoint in found {
            match wrong(&checkpoint.folder) {
                None => return Some(checkpoint),
                Some(what) => self.damaged.set_aside_quietly(
                    &checkpoint.folder,
                    &format!("a damaged checkpoint: {what}"),
                ),
            };
        }
        None
    }

    /// Takes a checkpoint: `write` puts files into the folder it is given. The newest two are kept.
    ///
    /// # Errors
    /// [`CheckpointError`]; the checkpoints taken before stay as they are.
    pub fn save<E>(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), CheckpointError<E>> {
        self.disk.create_folder(&self.folder)?;
        let temporary = self.disk.temporary_for(&self.folder);
        self.disk.create_passing_folder(&temporary)?;
        let saved = self.fill(&temporary, step, write);
        if saved.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        saved
    }

    fn fill<E>(
        &self,
        temporary: &Path,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), CheckpointError<E>> {
        write(temporary).map_err(CheckpointError::Writer)?;
        let mut manifest = Vec::new();
        for name in names(temporary) {
            let path = temporary.join(&name);
            let (digest, _) = Digest::of_file(&path).map_err(|source| CheckpointError::Read {
                path: path.clone(),
                source,
            })?;
            self.disk.sync_all(&path)?;
            manifest.push((name, digest));
        }
        self.disk
            .write_synced(&temporary.join(MANIFEST), &sealed::seal(&manifest))?;
        self.disk.sync_folder(temporary)?;
        let place = self.place(step);
        self.disk.remove(&place)?;
        self.disk.rename(temporary, &place)?;
        let steps = self.steps();
        for old in steps.iter().take(steps.len().saturating_sub(KEPT)) {
            self.disk.remove(&self.place(*old))?;
        }
        Ok(())
    }

    /// The final states of stages that differ in one growing argument only: `growth/<digest of the
    /// rest>/<value>`.
    pub(crate) fn of_growth(
        cache: &Path,
        rest: &Digest,
        value: u64,
        disk: Disk,
        damaged: Damaged,
    ) -> Self {
        Self {
            folder: growth(cache, rest).join(format!("{value:012}")),
            disk,
            damaged,
        }
    }

    /// The values of the growing argument that a final state is there for, ascending.
    pub(crate) fn warm_start(cache: &Path, rest: &Digest) -> Vec<u64> {
        names(&growth(cache, rest))
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    /// Moves the newest checkpoint to another place, replacing what is there.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(crate) fn hand_over(&self, to: &Checkpoints) -> Result<(), DiskError> {
        let Some(newest) = self.latest() else {
            return Ok(());
        };
        self.disk.create_folder(&to.folder)?;
        let place = to.place(newest.step);
        self.disk.remove(&place)?;
        self.disk.rename(&newest.folder, &place)
    }

    /// Removes all of them: the stage has its result.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn clear(&self) -> Result<(), DiskError> {
        self.disk.remove(&self.folder)
    }

    fn place(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{step:012}"))
    }

    fn steps(&self) -> Vec<u64> {
        let mut steps: Vec<u64> = names(&self.folder)
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }
}

fn growth(cache: &Path, rest: &Digest) -> PathBuf {
    cache.join("growth").join(rest.to_string())
}

/// What is wrong with a checkpoint; nothing when it is whole.
pub(crate) fn wrong(folder: &Path) -> Option<String> {
    look(folder, wrong_bytes)
}

/// The same, reading only files that were changed after the manifest was written.
pub(crate) fn incomplete(folder: &Path) -> Option<String> {
    let written = folder
        .join(MANIFEST)
        .metadata()
        .and_then(|manifest| manifest.modified())
        .ok();
    look(folder, |path, digest| match path.metadata() {
        Ok(file) if file.len() == 0 && *digest != Digest::of(b"") => Some("it is empty".to_owned()),
        Ok(file) if file.modified().ok() > written => wrong_bytes(path, digest),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    })
}

fn wrong_bytes(path: &Path, digest: &Digest) -> Option<String> {
    match Digest::of_file(path) {
        Ok((found, _)) if found == *digest => None,
        Ok(_) => Some("its bytes are not those that were written".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn look(folder: &Path, wrong: impl Fn(&Path, &Digest) -> Option<String>) -> Option<String> {
    let manifest = match fs::read(folder.join(MANIFEST)) {
        Ok(bytes) => {
            sealed::open::<Vec<(String, Digest)>>(&bytes).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match manifest {
        Ok(files) => {
            let file = |(name, digest): &(String, Digest)| {
                Some(format!("{name}: {}", wrong(&folder.join(name), digest)?))
            };
            files.iter().find_map(file)
        }
        Err(error) => Some(format!("{MANIFEST}: {error}")),
    }
}

/// What lies in a folder, sorted; nothing when there is no such folder.
fn names(folder: &Path) -> Vec<String> {
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
            Damaged::new(cache, Disk::default()),
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
    fn a_damaged_one_falls_back_to_the_one_before() {
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
        assert!(!newest.folder.exists(), "the damaged one is out of the way");
        checkpoints.clear().unwrap();
        assert_eq!(checkpoints.latest(), None);
    }

    #[test]
    fn a_writer_that_fails_leaves_the_last_one() {
        let cache = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(cache.path());
        save(&checkpoints, 1);
        let failed = checkpoints.save(2, |_| Err("no"));
        assert!(matches!(failed, Err(CheckpointError::Writer("no"))));
        assert_eq!(checkpoints.latest().unwrap().step, 1);
    }
}
