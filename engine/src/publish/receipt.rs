//! Receipts: which files were published at a destination, with the digest of each.
//!
//! A receipt lies beside the files (`.NAME.blip-export`), so a file is known as ours whatever
//! cache, working folder or link leads to it, and also after the project has moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Stamp;
use crate::cache::checksummed;
use crate::cache::disk::{Disk, DiskError};
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
    pub(crate) fn read(path: &Path, disk: &Disk) -> Result<Option<Self>, DiskError> {
        // A pipe would be read forever.
        if stat(path, disk)?.is_some_and(|metadata| !metadata.is_file()) {
            return Ok(None);
        }
        let bytes = disk.read_unless_folder(path)?;
        let receipt = bytes.and_then(|bytes| checksummed::decode_json::<Self>(&bytes).ok());
        Ok(receipt.filter(|receipt| receipt.all().all(PublishedFile::is_inside)))
    }

    /// What a cache knew of an export before there were receipts: names, lengths and times. Files
    /// that are still as they were then are ours; their digests are those of today.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn of_export_state(
        cache: &Path,
        target: &Path,
        folder: &Path,
        disk: &Disk,
    ) -> Result<Option<Self>, DiskError> {
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
        let state = disk.read_unless_folder(&cache.join("exports").join(name))?;
        let state = state.and_then(|bytes| checksummed::decode_json::<ExportState>(&bytes).ok());
        let Some(state) = state else {
            return Ok(None);
        };
        let count = state.files.len();
        let mut files = Vec::new();
        for ExportedFile {
            path,
            len,
            mtime_ns,
        } in state.files
        {
            let place = folder.join(&path);
            let Some(digest) = disk.digest_of(&place)? else {
                continue;
            };
            let file = PublishedFile {
                path,
                digest,
                len,
                mtime_ns,
            };
            if stat(&place, disk)?.is_some_and(|metadata| file.has_stat(&metadata)) {
                files.push(file);
            }
        }
        files.sort();
        // An export of which files are missing or changed is written again; those that changed are
        // in no receipt, and so not replaced.
        let input = if files.len() == count {
            state.input
        } else {
            Digest::of(b"")
        };
        Ok(Some(Self {
            input,
            files,
            earlier: Vec::new(),
        }))
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

    /// With the times of files that were there already. Those that were published have kept theirs.
    pub(super) fn with_times(mut self, kept: &[(PathBuf, Stamp)]) -> Self {
        let times: BTreeMap<&Path, Stamp> = kept
            .iter()
            .map(|(path, stamp)| (path.as_path(), *stamp))
            .collect();
        for file in &mut self.files {
            if let Some(stamp) = times.get(file.path.as_path()) {
                file.mtime_ns = stamp.mtime_ns;
            }
        }
        self
    }

    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        self.all().map(|file| file.path.clone()).collect()
    }

    /// What was published at a path.
    fn at<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a PublishedFile> {
        // Both are sorted by path.
        [&self.files, &self.earlier]
            .into_iter()
            .flat_map(move |files| {
                let first = files.partition_point(|file| file.path.as_path() < path);
                files
                    .iter()
                    .skip(first)
                    .take_while(move |file| file.path == path)
            })
    }

    /// Whether bytes with this digest were published at this path.
    pub(super) fn wrote(&self, path: &Path, digest: Digest) -> bool {
        self.at(path).any(|file| file.digest == digest)
    }

    /// Whether what is at a path, if there is anything, has bytes that were published there. A file
    /// with the length and time of the receipt is not read: the bytes are compared before a file is
    /// replaced.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn owns(&self, folder: &Path, path: &Path, disk: &Disk) -> Result<bool, DiskError> {
        let place = folder.join(path);
        let Some(metadata) = stat(&place, disk)? else {
            return Ok(true);
        };
        if !metadata.is_file() {
            return Ok(false);
        }
        if self.at(path).any(|file| file.has_stat(&metadata)) {
            return Ok(true);
        }
        let digest = disk.digest_of(&place)?;
        Ok(digest.is_none_or(|digest| self.wrote(path, digest)))
    }

    /// Whether everything that was published is there as it was, and nothing of the publication
    /// before is left.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn is_current(&self, folder: &Path, disk: &Disk) -> Result<bool, DiskError> {
        if self.files.is_empty() {
            return Ok(false);
        }
        for file in &self.files {
            if !file.is_unchanged(folder, disk)? {
                return Ok(false);
            }
        }
        for path in self.stale_paths() {
            if stat(&folder.join(path), disk)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The paths of the publication before that this one does not write.
    pub(super) fn stale_paths(&self) -> BTreeSet<PathBuf> {
        let kept: BTreeSet<&Path> = self.files.iter().map(|file| file.path.as_path()).collect();
        let earlier = self.earlier.iter().map(|file| &file.path);
        earlier
            .filter(|path| !kept.contains(path.as_path()))
            .cloned()
            .collect()
    }
}

impl PublishedFile {
    /// Whether the path is one below the destination's folder. A receipt may lie in a folder that
    /// others write to, and files are removed by it.
    fn is_inside(&self) -> bool {
        let mut parts = self.path.components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    }

    fn is_unchanged(&self, folder: &Path, disk: &Disk) -> Result<bool, DiskError> {
        let path = folder.join(&self.path);
        Ok(match stat(&path, disk)? {
            Some(metadata) if metadata.is_file() => {
                self.has_stat(&metadata) || disk.digest_of(&path)? == Some(self.digest)
            }
            _ => false,
        })
    }

    fn has_stat(&self, metadata: &fs::Metadata) -> bool {
        self.len == metadata.len() && self.mtime_ns == mtime_ns(metadata)
    }

    /// All files of a folder, in order. A rename changes neither their length nor their time.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn all_below(folder: &Path, disk: &Disk) -> Result<Vec<Self>, DiskError> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(next) = folders.pop() {
            for place in disk.list(&next)? {
                let Some(metadata) = stat(&place, disk)? else {
                    continue;
                };
                if metadata.is_dir() {
                    folders.push(place);
                } else if let Some(digest) = disk.digest_of(&place)? {
                    files.push(Self {
                        path: place.strip_prefix(folder).unwrap_or(&place).to_path_buf(),
                        digest,
                        len: metadata.len(),
                        mtime_ns: mtime_ns(&metadata),
                    });
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// What `lstat` says of a path; `None` where there is nothing.
pub(super) fn stat(path: &Path, disk: &Disk) -> Result<Option<fs::Metadata>, DiskError> {
    disk.attempt_read(path, || fs::symlink_metadata(path))
}

pub(super) fn mtime_ns(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_that_names_files_elsewhere_or_is_no_file_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let path = folder.path().join(".a.blip-export");
        let read = |file: &str| {
            let receipt = Receipt {
                input: Digest::of(b"input"),
                files: Vec::new(),
                earlier: vec![PublishedFile {
                    path: file.into(),
                    digest: Digest::of(b"known"),
                    len: 5,
                    mtime_ns: 0,
                }],
            };
            disk.write(&path, &checksummed::encode_json(&receipt))
                .unwrap();
            Receipt::read(&path, &disk).unwrap().is_some()
        };
        assert!(read("a/b"));
        for file in ["../notes.txt", "a/../../notes.txt", "/etc/notes.txt", ""] {
            assert!(!read(file), "{file}");
        }
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert_eq!(Receipt::read(&path, &disk).unwrap(), None);
    }
}
