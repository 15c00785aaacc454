//! Exports: results written where the user wants them, rewritten only when they are not there as
//! they were.
//!
//! A small state file in the cache remembers what was written where. It is written before the files
//! move into place, so that a run that was killed in between knows them for its own. A file or
//! folder that blip did not write is never replaced.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blip_grammar::Export;
use serde::{Deserialize, Serialize};

use crate::cache::disk::TEMPORARY_PREFIX;
use crate::cache::sealed;
use crate::cache::{Cache, Lease};
use crate::ctx::StageCtx;
use crate::digest::Digest;
use crate::op::{Artifact, ExportOp, ExportTarget, OpError, split_target};

/// What was written for one export.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// The digest of what was written: the result and how it is written.
    input: Digest,
    /// The files, relative to the folder of the export's path.
    files: Vec<Written>,
    /// Files and folders of an earlier export that this one does not write and that may still be
    /// there.
    stale: Vec<PathBuf>,
}

impl State {
    /// The files and folders that an export put into the folder of its path.
    fn names(&self) -> BTreeSet<PathBuf> {
        let first = |path: &PathBuf| {
            path.components()
                .next()
                .map(|part| PathBuf::from(part.as_os_str()))
        };
        self.files
            .iter()
            .map(|file| &file.path)
            .chain(&self.stale)
            .filter_map(first)
            .collect()
    }
}

/// A file that was written, as it was then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    path: PathBuf,
    len: u64,
    mtime_ns: i128,
}

/// An export on its way.
pub(crate) struct ExportJob<'a> {
    pub(crate) export: &'a Export,
    pub(crate) op: &'a ExportOp,
    pub(crate) base: &'a Path,
    pub(crate) cache: &'a Cache,
}

impl ExportJob<'_> {
    fn input(&self, artifact: &Artifact) -> Digest {
        let version = self.op.version.to_be_bytes();
        Digest::parts(
            "blip/export/1",
            &[
                self.op.format.name.as_bytes(),
                &version,
                artifact.digest.as_bytes(),
            ],
        )
    }

    /// Waits for others who write the same export: they take moments, and leave nothing to do.
    fn turn(&self, place: &Digest) -> Lease {
        loop {
            match self.cache.lease(place) {
                Lease::HeldByOther(_) => std::thread::sleep(Duration::from_millis(20)),
                ours @ Lease::Held(_) => return ours,
            }
        }
    }

    /// Writes the export unless it is there already; says whether it had to.
    pub(crate) fn write(&self, ctx: &StageCtx, artifact: &Artifact) -> Result<bool, OpError> {
        let target = self.base.join(&self.export.path);
        let Some((folder, name)) = split_target(&target) else {
            let what = format!("`{}` is no path for an export", self.export.path);
            return Err(OpError::failed(
                what,
                "name a file, such as \"out/pairs.json\"",
            ));
        };
        let input = self.input(artifact);
        let place = Digest::parts(
            "blip/export-place/1",
            &[target.as_os_str().as_encoded_bytes()],
        );
        let state_path = self.cache.folder().join("exports").join(place.to_string());
        let _turn = self.turn(&place);
        let old = fs::read(&state_path)
            .ok()
            .and_then(|bytes| sealed::open::<State>(&bytes).ok());
        let current = |state: &State| {
            let gone = |name: &PathBuf| folder.join(name).symlink_metadata().is_err();
            state.input == input
                && state.files.iter().all(|file| file.is_there(folder))
                && state.stale.iter().all(gone)
        };
        let disk = self.cache.disk();
        // Always the same name, so that what a killed run left there goes away.
        let temporary = folder.join(format!("{TEMPORARY_PREFIX}{}", place.short()));
        if temporary.symlink_metadata().is_ok() {
            disk.remove(&temporary)?;
        }
        if old.as_ref().is_some_and(current) {
            return Ok(false);
        }
        disk.create_folder(folder)?;
        disk.create_passing_folder(&temporary)?;
        let place = ExportTarget {
            folder: temporary.clone(),
            name,
        };
        let written = (self.op.run)(ctx, artifact, &place)
            .and_then(|_| self.publish(&temporary, folder, input, &state_path, old.as_ref()));
        let _ = fs::remove_dir_all(&temporary);
        written.map(|()| true)
    }

    /// Moves what was written into place and removes what an earlier export left there and this one
    /// does not write.
    fn publish(
        &self,
        from: &Path,
        to: &Path,
        input: Digest,
        state_path: &Path,
        old: Option<&State>,
    ) -> Result<(), OpError> {
        let disk = self.cache.disk();
        let ours = old.map_or(BTreeSet::new(), State::names);
        let mut names: Vec<PathBuf> = fs::read_dir(from)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| PathBuf::from(entry.file_name()))
            .collect();
        names.sort();
        let foreign = |name: &&PathBuf| {
            let there = to.join(name);
            there.symlink_metadata().is_ok()
                && !ours.contains(*name)
                && !same_content(&from.join(name), &there)
        };
        if let Some(name) = names.iter().find(foreign) {
            let what = format!(
                "{} exists and was not written by `export {}`",
                to.join(name).display(),
                self.export.name
            );
            return Err(OpError::failed(
                what,
                "move it away, or export to another path",
            ));
        }
        disk.sync_all(from)?;
        // A rename changes neither length nor time, so this is how they will be.
        let mut files = Vec::new();
        names
            .iter()
            .for_each(|name| Written::below(from, name, &mut files));
        let stale: Vec<PathBuf> = ours
            .into_iter()
            .filter(|name| !names.contains(name))
            .collect();
        let state = State {
            input,
            files,
            stale,
        };
        disk.write(state_path, &sealed::seal(&state))?;
        for name in &state.stale {
            disk.remove(&to.join(name))?;
        }
        for name in &names {
            let place = to.join(name);
            if place.is_dir() {
                disk.remove(&place)?;
            }
            disk.rename(&from.join(name), &place)?;
        }
        Ok(())
    }
}

/// Whether two files have the same bytes. What is there byte for byte may be taken for ours:
/// nothing is lost by replacing it, and a lost state file does not stop an export.
fn same_content(left: &Path, right: &Path) -> bool {
    match (Digest::of_file(left), Digest::of_file(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

impl Written {
    /// The file of this path, or all files of the folder that it is.
    fn below(folder: &Path, path: &Path, found: &mut Vec<Self>) {
        let place = folder.join(path);
        if !place.is_dir() {
            found.extend(Self::of(folder, path.to_path_buf()));
            return;
        }
        let mut names: Vec<_> = fs::read_dir(place)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        names
            .iter()
            .for_each(|name| Self::below(folder, &path.join(name), found));
    }

    fn of(folder: &Path, path: PathBuf) -> Option<Self> {
        let metadata = fs::metadata(folder.join(&path)).ok()?;
        let mtime_ns =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Some(Self {
            path,
            len: metadata.len(),
            mtime_ns,
        })
    }

    fn is_there(&self, folder: &Path) -> bool {
        Self::of(folder, self.path.clone()).as_ref() == Some(self)
    }
}
