//! Receipts: which files were published at a destination, with the digest of each.
//!
//! A receipt lies beside the files (`.NAME.blip-export`), so a file is known as ours whatever
//! cache, working folder or link leads to it, and also after the project has moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::checksummed;
use crate::digest::Digest;

/// What was published at a destination. The names of its fields are the format on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receipt {
    /// The digest of what was published: the result and how it is written.
    pub(crate) input: Digest,
    pub(crate) files: Vec<PublishedFile>,
    /// Files of the publication before, some of which may still be there after a kill.
    pub(crate) earlier: Vec<PublishedFile>,
}

/// A file as it was when it was published. Its path is relative to the destination's folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishedFile {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) len: u64,
    pub(crate) mtime_ns: i128,
}

impl Receipt {
    /// Reads a receipt. One that is missing or does not match its checksum says nothing: the files
    /// are then the user's.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(checksummed::decode_json(&bytes).ok()),
            Err(error) if super::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a cache knew of an export before there were receipts: names, lengths and times. Files
    /// that are still as they were then are ours; their digests are those of today.
    pub(crate) fn of_export_state(cache: &Path, target: &Path, folder: &Path) -> Option<Self> {
        #[derive(Deserialize)]
        struct ExportState {
            input: Digest,
            files: Vec<ExportedFile>,
        }
        #[derive(Deserialize)]
        struct ExportedFile {
            path: PathBuf,
            len: u64,
            mtime_ns: i128,
        }
        let bytes = target.as_os_str().as_encoded_bytes();
        let name = Digest::parts("blip/export-place/1", &[bytes]).to_string();
        let state = fs::read(cache.join("exports").join(name)).ok()?;
        let state: ExportState = checksummed::decode_json(&state).ok()?;
        let unchanged = |file: ExportedFile| {
            let path = folder.join(&file.path);
            let metadata = fs::symlink_metadata(&path).ok()?;
            let is_same = metadata.len() == file.len && mtime_ns(&metadata) == file.mtime_ns;
            let (digest, _) = Digest::of_file(&path).ok().filter(|_| is_same)?;
            let ExportedFile {
                path,
                len,
                mtime_ns,
            } = file;
            Some(PublishedFile {
                path,
                digest,
                len,
                mtime_ns,
            })
        };
        let count = state.files.len();
        let files: Vec<PublishedFile> = state.files.into_iter().filter_map(unchanged).collect();
        // An export of which files are missing or changed is written again; those that changed are
        // in no receipt, and so not replaced.
        let input = if files.len() == count {
            state.input
        } else {
            Digest::of(b"")
        };
        Some(Self {
            input,
            files,
            earlier: Vec::new(),
        })
    }

    /// All files, those of the publication before included.
    fn all(&self) -> impl Iterator<Item = &PublishedFile> {
        self.files.iter().chain(&self.earlier)
    }

    /// The files as the `earlier` ones of the next publication.
    pub(super) fn into_earlier(self) -> Vec<PublishedFile> {
        let mut all: Vec<PublishedFile> = self.files.into_iter().chain(self.earlier).collect();
        all.sort();
        all.dedup();
        all
    }

    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        self.all().map(|file| file.path.clone()).collect()
    }

    /// Whether bytes with this digest were published at this path.
    pub(super) fn wrote(&self, path: &Path, digest: Digest) -> bool {
        self.all()
            .any(|file| file.path == path && file.digest == digest)
    }

    /// Whether the file that is there has bytes that were published. A file with the length and
    /// time of the receipt is not read: the bytes are compared before a file is replaced.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn owns(&self, folder: &Path, path: &Path) -> io::Result<bool> {
        let place = folder.join(path);
        let metadata = fs::symlink_metadata(&place)?;
        if !metadata.is_file() {
            return Ok(false);
        }
        let is_unchanged = |file: &PublishedFile| file.path == path && file.has_stat(&metadata);
        if self.all().any(is_unchanged) {
            return Ok(true);
        }
        let (digest, _) = Digest::of_file(&place)?;
        Ok(self.wrote(path, digest))
    }

    /// Whether everything that was published is there as it was, and nothing of the publication
    /// before is left.
    pub(crate) fn is_current(&self, folder: &Path) -> bool {
        let current: BTreeMap<&Path, Digest> = self
            .files
            .iter()
            .map(|file| (file.path.as_path(), file.digest))
            .collect();
        let is_gone = |file: &PublishedFile| {
            current.contains_key(file.path.as_path())
                || folder.join(&file.path).symlink_metadata().is_err()
        };
        self.files.iter().all(|file| file.is_unchanged(folder)) && self.earlier.iter().all(is_gone)
    }
}

impl PublishedFile {
    fn is_unchanged(&self, folder: &Path) -> bool {
        let path = folder.join(&self.path);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                self.has_stat(&metadata)
                    || Digest::of_file(&path).is_ok_and(|(digest, _)| digest == self.digest)
            }
            _ => false,
        }
    }

    fn has_stat(&self, metadata: &fs::Metadata) -> bool {
        self.len == metadata.len() && self.mtime_ns == mtime_ns(metadata)
    }

    /// All files of a folder, in order. A rename changes neither their length nor their time.
    pub(super) fn all_below(folder: &Path) -> io::Result<Vec<Self>> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(inside) = folders.pop() {
            for entry in fs::read_dir(folder.join(&inside))? {
                let entry = entry?;
                let path = inside.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                    continue;
                }
                let (digest, len) = Digest::of_file(&folder.join(&path))?;
                let mtime_ns = mtime_ns(&entry.metadata()?);
                files.push(Self {
                    path,
                    digest,
                    len,
                    mtime_ns,
                });
            }
        }
        files.sort();
        Ok(files)
    }
}

pub(super) fn mtime_ns(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}
