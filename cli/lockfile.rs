//! `blip.lock` beside the workflow: checked by `run --locked`, written by `run --lock` and by every
//! complete run of a workflow whose folder has one.
//!
//! The workflows of a folder share it, and may run at the same time. So it is read again, under a
//! lock on its folder, when it is written, and only the section of the one workflow is replaced.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blip_engine::cache::disk::Disk;
use blip_engine::{LockedWorkflow, Lockfile};

use crate::error::ErrorMessage;
use crate::exit_code;
use crate::input_file::read_text;

/// Beside the workflow.
pub(crate) const FILE_NAME: &str = "blip.lock";
/// A section has a few hundred bytes a stage.
const BYTES_MAX: u64 = 64 << 20;
/// Writing takes milliseconds: who holds the lock for ten seconds is no run.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The lock file of a folder, shared by the workflows in it.
#[derive(Debug)]
pub(crate) struct StoredLockfile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Missing,
    Valid(Lockfile),
    /// It cannot be read, is no lock file, or is one of a newer program.
    Unusable(ErrorMessage),
}

impl StoredLockfile {
    /// Reads the lock file of a folder.
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE_NAME);
        let content = read(&path);
        Self { path, content }
    }

    /// # Errors
    /// When there is a file of this name that is no lock file.
    pub(crate) fn check(&self) -> Result<(), ErrorMessage> {
        match &self.content {
            Content::Unusable(error) => Err(error.clone()),
            Content::Missing | Content::Valid(_) => Ok(()),
        }
    }

    /// The locked results of a workflow.
    ///
    /// # Errors
    /// When the file cannot be used, or has no entry for the workflow.
    pub(crate) fn entry(&self, workflow: &str) -> Result<LockedWorkflow, ErrorMessage> {
        self.check()?;
        let Content::Valid(Lockfile { workflows, .. }) = &self.content else {
            return Err(self.no_entry(workflow));
        };
        let entry = workflows.get(workflow).cloned();
        entry.ok_or_else(|| self.no_entry(workflow))
    }

    fn no_entry(&self, workflow: &str) -> ErrorMessage {
        ErrorMessage::usage(
            format!("`{}` has no entry for `{workflow}`", self.path.display()),
            "create it with `blip run --lock`",
        )
    }

    pub(crate) fn exists(&self) -> bool {
        !matches!(self.content, Content::Missing)
    }

    /// Stores the results of a workflow; an unchanged file is not rewritten. The file is replaced
    /// as a whole, so that a full disk leaves the one that is there.
    ///
    /// # Errors
    /// When the file cannot be used or written.
    pub(crate) fn update(
        &self,
        workflow: &str,
        locked: LockedWorkflow,
        disk: &Disk,
    ) -> Result<(), ErrorMessage> {
        if has_entry(&read_for_update(&self.path)?, workflow, &locked) {
            return Ok(());
        }
        // What a symbolic link leads to is replaced, not the link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let _lock = lock_folder(&path)?;
        let mut content = read_for_update(&path)?;
        if has_entry(&content, workflow, &locked) {
            return Ok(());
        }
        content.workflows.insert(workflow.to_owned(), locked);
        disk.write(&path, content.text().as_bytes())
            .map_err(|error| ErrorMessage::io("write the lock file", &self.path, &error.source))
    }
}

fn has_entry(content: &Lockfile, workflow: &str, locked: &LockedWorkflow) -> bool {
    content.workflows.get(workflow) == Some(locked)
}

fn read(path: &Path) -> Content {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        // A pipe would be read forever.
        let what = format!("`{}` is not a file", path.display());
        return Content::Unusable(ErrorMessage::usage(what, "move it away"));
    }
    let text = match read_text(path, BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::Missing,
        Err(error) => {
            return Content::Unusable(ErrorMessage::io("read the lock file", path, &error));
        }
    };
    Lockfile::parse(&text).map_or_else(
        |error| {
            Content::Unusable(ErrorMessage::usage(
                format!("could not parse `{}`: {error}", path.display()),
                "restore the file, or delete it and recreate it with `blip run --lock`",
            ))
        },
        Content::Valid,
    )
}

/// The content as it is now; empty where there is no file.
fn read_for_update(path: &Path) -> Result<Lockfile, ErrorMessage> {
    match read(path) {
        Content::Missing => Ok(Lockfile::default()),
        Content::Valid(content) => Ok(content),
        Content::Unusable(error) => Err(error),
    }
}

/// Locks the folder of a lock file until the result is dropped. `None` on file systems without
/// locks: the last of two runs that end at the same time wins then.
fn lock_folder(path: &Path) -> Result<Option<File>, ErrorMessage> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // A folder that cannot be opened is reported by the write.
    let Ok(folder) = File::open(folder) else {
        return Ok(None);
    };
    for _ in 0..LOCK_TRIES {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    Err(ErrorMessage {
        message: format!("another process holds the folder of `{}`", path.display()),
        help: "wait for that process to end, then run again".to_owned(),
        exit_code: exit_code::BUSY,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Barrier};

    use blip_engine::cache::disk::{FaultAction, Hook, Syscall};

    use super::*;

    fn locked(name: &str) -> LockedWorkflow {
        LockedWorkflow {
            environment: BTreeMap::from([("name".to_owned(), name.to_owned())]),
            stages: BTreeMap::new(),
        }
    }

    fn update(folder: &Path, name: &str, disk: &Disk) -> Result<(), ErrorMessage> {
        StoredLockfile::open(folder).update(name, locked(name), disk)
    }

    fn sections(folder: &Path) -> Vec<String> {
        match read(&folder.join("blip.lock")) {
            Content::Valid(content) => content.workflows.into_keys().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn workflows_that_end_together_keep_all_their_sections() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..16).map(|number| format!("w{number:02}.blip")).collect();
        let barrier = Barrier::new(names.len());
        std::thread::scope(|scope| {
            for name in &names {
                let (barrier, folder) = (&barrier, folder.path());
                scope.spawn(move || {
                    // All have read the file before the first one writes it, as runs have.
                    let lockfile = StoredLockfile::open(folder);
                    barrier.wait();
                    lockfile
                        .update(name, locked(name), &Disk::default())
                        .unwrap();
                });
            }
        });
        assert_eq!(sections(folder.path()), names);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "no temporary file is left");
    }

    /// A disk without space.
    struct FullDisk;

    impl Hook for FullDisk {
        fn before(&self, call: Syscall, _: &Path) -> FaultAction {
            match call {
                Syscall::Write => FaultAction::Fail(io::ErrorKind::StorageFull.into()),
                _ => FaultAction::Proceed,
            }
        }

        fn after(&self, _: Syscall, _: &Path) {}
    }

    #[test]
    fn a_full_disk_leaves_the_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        update(folder.path(), "a", &Disk::default()).unwrap();
        let full = Disk::with_hook(Arc::new(FullDisk));
        let error = update(folder.path(), "b", &full).unwrap_err();
        let path = folder.path().join("blip.lock");
        let message = format!(
            "could not write the lock file `{}`: no storage space",
            path.display()
        );
        assert_eq!(error.message, message);
        let help = "the disk is full: free some space and run again; finished results are kept";
        assert_eq!(error.help, help);
        assert_eq!(sections(folder.path()), ["a"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        update(folder.path(), "a", &full).expect("what is unchanged is not written");
    }

    #[test]
    fn a_file_that_is_no_lock_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blip.lock");
        let other_version = "{\"version\": 9, \"workflows\": {}}";
        for text in ["", "a user's notes", "{}", other_version] {
            fs::write(&path, text).unwrap();
            assert!(StoredLockfile::open(folder.path()).check().is_err());
            assert!(update(folder.path(), "a", &Disk::default()).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        // Broken while the run went on.
        fs::remove_file(&path).unwrap();
        let lockfile = StoredLockfile::open(folder.path());
        fs::write(&path, "notes").unwrap();
        let updated = lockfile.update("a", locked("a"), &Disk::default());
        assert!(updated.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    }

    #[test]
    fn what_a_link_leads_to_is_replaced_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        update(&shared, "a", &Disk::default()).unwrap();
        let link = folder.path().join("blip.lock");
        std::os::unix::fs::symlink("shared/blip.lock", &link).unwrap();
        update(folder.path(), "b", &Disk::default()).unwrap();
        assert!(link.is_symlink());
        assert_eq!(sections(&shared), ["a", "b"]);
    }

    #[test]
    fn a_folder_that_stays_locked_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let held = File::open(folder.path()).unwrap();
        held.try_lock().unwrap();
        let error = update(folder.path(), "a", &Disk::default()).unwrap_err();
        let path = folder.path().join("blip.lock");
        let message = format!("another process holds the folder of `{}`", path.display());
        assert_eq!(error.message, message);
        assert_eq!(error.exit_code, exit_code::BUSY);
        assert!(!path.exists());
    }
}
