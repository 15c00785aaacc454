//! Exports: results written where the user wants them, rewritten only when they are not there as they were.
//!
//! A small state file in the cache remembers what was written where. A file or folder that blip did not write is never
//! replaced.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use blip_grammar::Export;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::cache::disk::temporary_in;
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
    fn state_path(&self, target: &Path) -> PathBuf {
        let place = Digest::parts("blip/export-place/1", &[target.as_os_str().as_encoded_bytes()]);
        self.cache.folder().join("exports").join(place.to_string())
    }

    fn input(&self, artifact: &Artifact) -> Digest {
        let version = self.op.version.to_be_bytes();
        Digest::parts("blip/export/1", &[self.op.format.name.as_bytes(), &version, artifact.digest.as_bytes()])
    }

    /// Writes the export unless it is there already; says whether it had to.
    pub(crate) fn write(&self, ctx: &StageCtx, artifact: &Artifact) -> Result<bool, OpError> {
        let target = self.base.join(&self.export.path);
        let Some((folder, name)) = split_target(&target) else {
            let what = format!("`{}` is no path for an export", self.export.path);
            return Err(OpError::failed(what, "name a file, such as \"out/pairs.json\""));
        };
        let input = self.input(artifact);
        let state_path = self.state_path(&target);
        let old = fs::read(&state_path).ok().and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
        let current = |state: &State| state.input == input && state.files.iter().all(|file| file.is_there(folder));
        if old.as_ref().is_some_and(current) {
            return Ok(false);
        }
        let disk = self.cache.disk();
        disk.create_folder(folder)?;
        let temporary = temporary_in(folder);
        disk.create_folder(&temporary)?;
        let place = ExportTarget { folder: temporary.clone(), name };
        let moved = (self.op.run)(ctx, artifact, &place).and_then(|_| self.publish(&temporary, folder, old.as_ref()));
        let _ = fs::remove_dir_all(&temporary);
        let state = State { input, files: moved? };
        let bytes = serde_json::to_vec(&state).expect("paths and numbers are plain data");
        disk.write(&state_path, &bytes)?;
        Ok(true)
    }

    /// Moves what was written into place and removes what an earlier export left there and this one does not write.
    fn publish(&self, from: &Path, to: &Path, old: Option<&State>) -> Result<Vec<Written>, OpError> {
        let ours = |path: &Path| old.is_some_and(|state| state.files.iter().any(|file| file.path == path));
        let mut names: Vec<PathBuf> =
            fs::read_dir(from).into_iter().flatten().flatten().map(|entry| PathBuf::from(entry.file_name())).collect();
        names.sort();
        if let Some(name) = names.iter().find(|name| to.join(name).exists() && !ours(name)) {
            let what =
                format!("{} exists and was not written by `export {}`", to.join(name).display(), self.export.name);
            return Err(OpError::failed(what, "move it away, or export to another path"));
        }
        let disk = self.cache.disk();
        for file in old.iter().flat_map(|state| &state.files) {
            disk.remove(&to.join(&file.path))?;
        }
        let mut written = Vec::new();
        for name in names {
            disk.sync_file(&from.join(&name))?;
            disk.rename(&from.join(&name), &to.join(&name))?;
            written.extend(Written::of(to, name));
        }
        Ok(written)
    }
}

impl Written {
    fn of(folder: &Path, path: PathBuf) -> Option<Self> {
        let metadata = fs::metadata(folder.join(&path)).ok()?;
        let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Some(Self { path, len: metadata.len(), mtime_ns })
    }

    fn is_there(&self, folder: &Path) -> bool {
        Self::of(folder, self.path.clone()).as_ref() == Some(self)
    }
}
