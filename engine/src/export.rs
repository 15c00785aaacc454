//! Exports: results written where the user wants them, and again only when they have changed there.
//!
//! A small state file in the cache lists what was written where. It is written before the files
//! move into place, so that after a kill in between they are recognized as exported. A file or
//! folder that blip did not write is never replaced.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blip_grammar::Export;
use serde::{Deserialize, Serialize};

use crate::cache::checksummed;
use crate::cache::disk::TEMPORARY_PREFIX;
use crate::cache::{Cache, Lease};
use crate::ctx::StageCtx;
use crate::digest::Digest;
use crate::op::{Artifact, ExportOp, ExportTarget, OpError, split_target};

/// What was written for one export. The names of its fields are the format on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportState {
    /// The digest of the result and of how it is written.
    input: Digest,
    files: Vec<ExportedFile>,
    /// Files and folders of an earlier export that this one does not write, and that may still
    /// exist if it was interrupted.
    stale: Vec<PathBuf>,
}

/// A file as it was when it was written. Its path is relative to the folder of the export.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportedFile {
    path: PathBuf,
    len: u64,
    mtime_ns: i128,
}

impl ExportState {
    fn read(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        checksummed::decode_json(&bytes).ok()
    }

    /// The files and folders that the export put directly into its folder.
    fn names(&self) -> BTreeSet<PathBuf> {
        self.files
            .iter()
            .map(|file| &file.path)
            .chain(&self.stale)
            .filter_map(|path| path.iter().next().map(PathBuf::from))
            .collect()
    }

    /// Whether `folder` holds what an export of this input would write.
    fn is_current(&self, input: Digest, folder: &Path) -> bool {
        let is_gone = |name: &PathBuf| folder.join(name).symlink_metadata().is_err();
        self.input == input
            && self.files.iter().all(|file| file.is_unchanged(folder))
            && self.stale.iter().all(is_gone)
    }
}

/// An export to be written.
pub(crate) struct ExportJob<'a> {
    pub(crate) export: &'a Export,
    pub(crate) op: &'a ExportOp,
    pub(crate) base: &'a Path,
    pub(crate) cache: &'a Cache,
}

impl ExportJob<'_> {
    fn input_digest(&self, artifact: &Artifact) -> Digest {
        let format = self.op.format.name.as_bytes();
        let version = self.op.version.to_be_bytes();
        Digest::parts(
            "blip/export/1",
            &[format, &version, artifact.digest.as_bytes()],
        )
    }

    /// Waits for other processes that write the same export: it takes them moments, and leaves
    /// nothing to do.
    fn acquire_lease(&self, target: &Digest) -> Lease {
        loop {
            match self.cache.lease(target) {
                Lease::HeldByOther(_) => std::thread::sleep(Duration::from_millis(20)),
                lease @ Lease::Held(_) => return lease,
            }
        }
    }

    /// Writes the export unless it is current; says whether it wrote it.
    pub(crate) fn write(&self, ctx: &StageCtx, artifact: &Artifact) -> Result<bool, OpError> {
        let target = self.base.join(&self.export.path);
        let Some((folder, name)) = split_target(&target) else {
            return Err(OpError::failed(
                format!("`{}` is not a valid export path", self.export.path),
                "name a file, such as \"out/pairs.json\"",
            ));
        };
        let input = self.input_digest(artifact);
        let target_bytes = target.as_os_str().as_encoded_bytes();
        let target_digest = Digest::parts("blip/export-place/1", &[target_bytes]);
        let exports = self.cache.folder().join("exports");
        let state_path = exports.join(target_digest.to_string());
        let _lease = self.acquire_lease(&target_digest);
        let previous = ExportState::read(&state_path);
        let disk = self.cache.disk();
        // Always the same name for the same target, so that the next run removes what a killed one
        // left. It is beside the target and not in the cache: that may be another file system.
        let temporary = folder.join(format!("{TEMPORARY_PREFIX}{}", target_digest.short()));
        if temporary.symlink_metadata().is_ok() {
            disk.remove(&temporary)?;
        }
        if let Some(state) = &previous
            && state.is_current(input, folder)
        {
            return Ok(false);
        }
        disk.create_folder(folder)?;
        disk.create_temporary_folder(&temporary)?;
        let place = ExportTarget {
            folder: temporary.clone(),
            name,
        };
        let written = (self.op.run)(ctx, artifact, &place)
            .and_then(|_| self.publish(&temporary, folder, input, &state_path, previous.as_ref()));
        let _ = fs::remove_dir_all(&temporary);
        written.map(|()| true)
    }

    /// Moves what was written into place, and removes what an earlier export wrote and this one
    /// does not.
    fn publish(
        &self,
        from: &Path,
        to: &Path,
        input: Digest,
        state_path: &Path,
        previous: Option<&ExportState>,
    ) -> Result<(), OpError> {
        let disk = self.cache.disk();
        let exported = previous.map_or(BTreeSet::new(), ExportState::names);
        let names = file_names(from);
        self.refuse_foreign_files(from, to, &names, &exported)?;
        disk.sync_all(from)?;
        // A rename changes neither length nor time, so the files can be described before it.
        let mut files = Vec::new();
        for name in &names {
            ExportedFile::collect(from, name, &mut files);
        }
        let stale = exported
            .into_iter()
            .filter(|name| !names.contains(name))
            .collect();
        let state = ExportState {
            input,
            files,
            stale,
        };
        disk.write(state_path, &checksummed::encode_json(&state))?;
        for name in &state.stale {
            disk.remove(&to.join(name))?;
        }
        for name in &names {
            let place = to.join(name);
            // A rename replaces a file, but not a folder with files in it.
            if place.is_dir() {
                disk.remove(&place)?;
            }
            disk.rename(&from.join(name), &place)?;
        }
        Ok(())
    }

    /// Fails if the export would replace something that it did not write. A file with the same
    /// bytes may be replaced: nothing is lost, and a lost state file does not stop an export.
    fn refuse_foreign_files(
        &self,
        from: &Path,
        to: &Path,
        names: &[PathBuf],
        exported: &BTreeSet<PathBuf>,
    ) -> Result<(), OpError> {
        for name in names {
            let place = to.join(name);
            if exported.contains(name) || place.symlink_metadata().is_err() {
                continue;
            }
            if !have_same_content(&from.join(name), &place) {
                let (path, export) = (place.display(), &self.export.name);
                return Err(OpError::failed(
                    format!("{path} exists and was not written by `export {export}`"),
                    "move it away, or export to another path",
                ));
            }
        }
        Ok(())
    }
}

fn have_same_content(left: &Path, right: &Path) -> bool {
    match (Digest::of_file(left), Digest::of_file(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

/// The names in a folder, sorted.
fn file_names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries
        .map(|entry| PathBuf::from(entry.file_name()))
        .collect();
    names.sort();
    names
}

impl ExportedFile {
    /// Adds the file with this path, or all files of the folder with this path, to `files`.
    fn collect(folder: &Path, path: &Path, files: &mut Vec<Self>) {
        let place = folder.join(path);
        if !place.is_dir() {
            files.extend(Self::of(folder, path.to_path_buf()));
            return;
        }
        for name in file_names(&place) {
            Self::collect(folder, &path.join(name), files);
        }
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

    fn is_unchanged(&self, folder: &Path) -> bool {
        Self::of(folder, self.path.clone()).as_ref() == Some(self)
    }
}
