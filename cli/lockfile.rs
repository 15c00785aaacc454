//! `blip.lock` beside the workflow: checked by `run --locked`, written by `run --lock` and by every
//! complete run of a workflow whose folder has one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blip_engine::{LockedWorkflow, Lockfile};

use crate::error::ErrorMessage;

/// The lock file of a folder, shared by the workflows in it.
#[derive(Debug)]
pub(crate) struct StoredLockfile {
    path: PathBuf,
    /// None if the file does not exist.
    content: Option<Lockfile>,
}

impl StoredLockfile {
    /// Reads the lock file of a folder.
    ///
    /// # Errors
    /// When the file exists and cannot be read or parsed.
    pub(crate) fn open(folder: &Path) -> Result<Self, ErrorMessage> {
        let path = folder.join("blip.lock");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path,
                    content: None,
                });
            }
            Err(error) => return Err(ErrorMessage::io("read the lock file", &path, &error)),
        };
        let content = Lockfile::parse(&text).map_err(|error| {
            ErrorMessage::usage(
                format!("could not parse `{}`: {error}", path.display()),
                "restore the file, or delete it and recreate it with `blip run --lock`",
            )
        })?;
        Ok(Self {
            path,
            content: Some(content),
        })
    }

    /// The locked results of a workflow.
    ///
    /// # Errors
    /// When the file has no entry for the workflow.
    pub(crate) fn entry(&self, workflow: &str) -> Result<LockedWorkflow, ErrorMessage> {
        let entry = self
            .content
            .as_ref()
            .and_then(|content| content.workflows.get(workflow));
        entry.cloned().ok_or_else(|| {
            ErrorMessage::usage(
                format!("`{}` has no entry for `{workflow}`", self.path.display()),
                "create it with `blip run --lock`",
            )
        })
    }

    pub(crate) fn exists(&self) -> bool {
        self.content.is_some()
    }

    /// Stores the results of a workflow; an unchanged file is not rewritten.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn update(self, workflow: &str, locked: LockedWorkflow) -> Result<(), ErrorMessage> {
        let mut content = self.content.unwrap_or_default();
        if content.workflows.get(workflow) == Some(&locked) {
            return Ok(());
        }
        content.workflows.insert(workflow.to_owned(), locked);
        fs::write(&self.path, content.text())
            .map_err(|error| ErrorMessage::io("write the lock file", &self.path, &error))
    }
}
