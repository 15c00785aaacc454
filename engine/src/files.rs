//! The user's files: found, digested, remembered by what `stat` says of them, and checked again
//! after use.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::cache::file_digests::FileDigests;
use crate::digest::Digest;
use crate::op::OpError;

/// A file changed within this time of being looked at may change again without its `stat` showing
/// it.
const RACY: Duration = Duration::from_secs(2);

/// A file that a stage reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceFile {
    /// As the user would call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub len: u64,
    /// Whether the name is part of the key, since what the stage makes depends on it.
    pub keyed_name: bool,
}

/// Access to files below the workflow's folder.
#[derive(Debug)]
pub struct Files<'a> {
    base: PathBuf,
    known: Option<&'a FileDigests>,
}

impl<'a> Files<'a> {
    /// Files relative to `base`; digests are looked up in `known` and remembered there.
    pub fn new(base: &Path, known: Option<&'a FileDigests>) -> Self {
        Self {
            base: base.to_path_buf(),
            known,
        }
    }

    /// The files that a pattern such as `data/*.tar` names, sorted by name.
    ///
    /// # Errors
    /// A bad pattern, no match, or what [`Files::file`] gives.
    pub fn glob(&self, pattern: &str) -> Result<Vec<SourceFile>, OpError> {
        if !pattern.contains(['*', '?', '[']) {
            return Ok(vec![self.file(pattern)?]);
        }
        let base = glob::Pattern::escape(&self.base.to_string_lossy());
        let full = if Path::new(pattern).is_absolute() {
            pattern.to_owned()
        } else {
            format!("{base}/{pattern}")
        };
        let paths = glob::glob(&full).map_err(|error| {
            OpError::failed(
                format!("`{pattern}` is not a pattern of files: {}", error.msg),
                "`*` and `?` stand for any characters, `[ab]` for one of them",
            )
        })?;
        let mut files = Vec::new();
        for path in paths {
            let path = path.map_err(|error| {
                OpError::failed(
                    format!(
                        "could not read {}: {}",
                        error.path().display(),
                        error.error()
                    ),
                    "make the folder readable",
                )
            })?;
            if path.is_file() {
                files.push(self.digest(self.name_of(&path), path)?);
            }
        }
        files.sort_by(|left, right| left.name.cmp(&right.name));
        if files.is_empty() {
            let what = format!("no file matches `{pattern}` in {}", self.base.display());
            return Err(OpError::failed(
                what,
                "check the pattern; it is relative to the workflow's folder",
            ));
        }
        Ok(files)
    }

    /// One file.
    ///
    /// # Errors
    /// When it is missing, unreadable, no regular file, or changes while it is read.
    pub fn file(&self, name: &str) -> Result<SourceFile, OpError> {
        self.digest(name.to_owned(), self.base.join(name))
    }

    /// The files of these names that are in a folder, in this order; none when `name` is no folder.
    ///
    /// # Errors
    /// What [`Files::file`] gives for those that are there.
    pub fn folder(&self, name: &str, wanted: &[&str]) -> Result<Vec<SourceFile>, OpError> {
        let folder = self.base.join(name);
        let there = wanted.iter().filter(|file| folder.join(file).exists());
        there
            .map(|file| self.digest(format!("{name}/{file}"), folder.join(file)))
            .collect()
    }

    /// The bytes of a file, which must be as they were when it was digested.
    ///
    /// # Errors
    /// When it cannot be read or has changed.
    pub fn read(&self, file: &SourceFile) -> Result<Vec<u8>, OpError> {
        let bytes = fs::read(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        if Digest::of(&bytes) == file.digest {
            Ok(bytes)
        } else {
            Err(changed(&file.path))
        }
    }

    fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.base)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    }

    fn digest(&self, name: String, path: PathBuf) -> Result<SourceFile, OpError> {
        let before = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if !before.is_file() {
            return Err(OpError::failed(
                format!("{} is not a file", path.display()),
                "name a file, or a pattern such as `data/*.tar`",
            ));
        }
        let stat = stat_key(&path, &before);
        let known = self.known.and_then(|known| known.get(&stat));
        if let Some(digest) = known {
            return Ok(SourceFile {
                name,
                path,
                digest,
                len: before.len(),
                keyed_name: false,
            });
        }
        let (digest, len) = Digest::of_file(&path).map_err(|error| unreadable(&path, &error))?;
        let after = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if stat_key(&path, &after) != stat || len != after.len() {
            return Err(changed(&path));
        }
        let settled = after.modified().is_ok_and(|time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age > RACY)
        });
        if let (Some(known), true) = (self.known, settled) {
            known.add(&stat, &digest);
        }
        Ok(SourceFile {
            name,
            path,
            digest,
            len,
            keyed_name: false,
        })
    }
}

impl SourceFile {
    /// The same file with its name in the key.
    #[must_use]
    pub fn named(self) -> Self {
        Self {
            keyed_name: true,
            ..self
        }
    }

    /// Whether the file still has the content it was digested with, looked up as cheaply as that
    /// can be said.
    pub(crate) fn unchanged(&self, known: &FileDigests) -> bool {
        let files = Files {
            base: PathBuf::new(),
            known: Some(known),
        };
        files
            .digest(self.name.clone(), self.path.clone())
            .is_ok_and(|now| now.digest == self.digest)
    }
}

/// What identifies a file's content without reading it.
fn stat_key(path: &Path, metadata: &Metadata) -> Digest {
    let fields = [
        metadata.len(),
        metadata.ino(),
        metadata.dev(),
        metadata.mtime().cast_unsigned(),
        metadata.mtime_nsec().cast_unsigned(),
        metadata.ctime().cast_unsigned(),
        metadata.ctime_nsec().cast_unsigned(),
    ];
    let fields: Vec<u8> = fields
        .iter()
        .flat_map(|field| field.to_be_bytes())
        .collect();
    Digest::parts("blip/stat/1", &[path.as_os_str().as_bytes(), &fields])
}

fn unreadable(path: &Path, error: &io::Error) -> OpError {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; it is relative to the workflow's folder",
        io::ErrorKind::PermissionDenied => "make the file readable",
        _ => "check the file and the disk it is on",
    };
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file {}", path.display()),
        _ => format!("could not read {}: {error}", path.display()),
    };
    OpError::failed(what, help)
}

fn changed(path: &Path) -> OpError {
    OpError::failed(
        format!("{} changed while it was read", path.display()),
        "run again when nothing writes to it any more",
    )
}
