//! `blip.lock`, beside the workflow: read for `run --locked`, written for `run --lock` and wherever
//! there is one already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blip_engine::{Locked, Lockfile};

use crate::failure::Fault;

/// The lock file of the workflows in a folder.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    /// What it says; nothing when there is none.
    content: Option<Lockfile>,
}

impl LockFile {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub(crate) fn open(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join("blip.lock");
        let content = match fs::read_to_string(&path) {
            Ok(text) => Some(Lockfile::parse(&text).map_err(|error| {
                let what = format!("could not use `{}`: {error}", path.display());
                Fault::usage(
                    what,
                    "restore it, or remove it and write it anew with `blip run --lock`",
                )
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Fault::io("read the lock file", &path, &error)),
        };
        Ok(Self { path, content })
    }

    /// What a workflow has to come to.
    ///
    /// # Errors
    /// When the file does not say.
    pub(crate) fn locked(&self, workflow: &str) -> Result<Locked, Fault> {
        let section = self
            .content
            .as_ref()
            .and_then(|content| content.workflows.get(workflow));
        section.cloned().ok_or_else(|| {
            let what = format!(
                "`{}` does not say what `{workflow}` comes to",
                self.path.display()
            );
            Fault::usage(what, "write it with `blip run --lock`")
        })
    }

    /// Whether there is one.
    pub(crate) fn exists(&self) -> bool {
        self.content.is_some()
    }

    /// Notes what a workflow came to, if that is something else than before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn update(self, workflow: &str, locked: Locked) -> Result<(), Fault> {
        let mut content = self.content.unwrap_or_default();
        if content.workflows.get(workflow) == Some(&locked) {
            return Ok(());
        }
        content.workflows.insert(workflow.to_owned(), locked);
        fs::write(&self.path, content.text())
            .map_err(|error| Fault::io("write the lock file", &self.path, &error))
    }
}
