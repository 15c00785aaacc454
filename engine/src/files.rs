//! The user's files: found by pattern, digested, cached by what `stat` says of them, and checked
//! again after use.

pub(crate) mod braces;

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::cache::disk::Disk;
use crate::cache::file_digests::FileDigests;
use crate::cache::file_system::FileSystem;
use crate::digest::Digest;
use crate::op::OpError;

/// The digest of a file modified within this time is not cached: timestamps are coarse, so a second
/// change could leave the same `stat` (git calls such entries racily clean).
const RACY: Duration = Duration::from_secs(2);

/// A file that a stage reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InputFile {
    /// As the workflow names it.
    pub name: String,
    pub path: PathBuf,
    pub digest: Digest,
    /// In bytes.
    pub len: u64,
    /// Whether the name is part of the key, since the result depends on it.
    pub name_in_key: bool,
}

/// Reads files below the workflow's folder.
#[derive(Debug)]
pub struct Files<'a> {
    base: PathBuf,
    digest_cache: Option<&'a FileDigests>,
}

impl<'a> Files<'a> {
    /// Files relative to `base`. Their digests are cached in `digest_cache`.
    pub fn new(base: &Path, digest_cache: Option<&'a FileDigests>) -> Self {
        Self {
            base: base.to_path_buf(),
            digest_cache,
        }
    }

    /// Where a path of the workflow is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// The files that match a pattern such as `data/*.tar` or `data/{000..009}.tar`, sorted by
    /// name. A file of exactly that name is that file, whatever characters are in it.
    ///
    /// # Errors
    /// An invalid pattern, no match, or what [`Files::file`] gives.
    pub fn glob(&self, pattern: &str) -> Result<Vec<InputFile>, OpError> {
        if self.path(pattern).is_file() {
            return Ok(vec![self.file(pattern)?]);
        }
        let patterns = braces::expand(pattern).ok_or_else(|| {
            OpError::failed(
                format!("`{pattern}` stands for more than a million files"),
                "name fewer files, or use `*`",
            )
        })?;
        let mut files = Vec::new();
        for pattern in &patterns {
            files.extend(self.matching(pattern)?);
        }
        files.sort_by(|left, right| left.name.cmp(&right.name));
        files.dedup_by(|left, right| left.name == right.name);
        Ok(files)
    }

    /// The files that match a pattern without braces.
    fn matching(&self, pattern: &str) -> Result<Vec<InputFile>, OpError> {
        if !pattern.contains(['*', '?', '[']) || self.path(pattern).is_file() {
            return Ok(vec![self.file(pattern)?]);
        }
        let mut files = Vec::new();
        for path in self.glob_paths(pattern)? {
            let path = path.map_err(|error| {
                let (path, source) = (error.path().display(), error.error());
                OpError::failed(
                    format!("could not read {path}: {source}"),
                    "make the folder readable",
                )
            })?;
            if path.is_file() && !self.is_hidden(&path, pattern) {
                files.push(self.digest(self.name_of(&path), path)?);
            }
        }
        if files.is_empty() {
            return Err(OpError::failed(
                format!("no file matches `{pattern}` in {}", self.base.display()),
                "check the pattern; it is relative to the workflow's folder",
            ));
        }
        Ok(files)
    }

    /// As in shells, names that begin with a dot match only a pattern that does: they belong to
    /// programs, like the cache and the receipts of exports.
    fn is_hidden(&self, path: &Path, pattern: &str) -> bool {
        let has_dot = |name: &OsStr| name.as_bytes().starts_with(b".");
        let asked = Path::new(pattern)
            .iter()
            .filter(|name| has_dot(name))
            .count();
        let inside = path.strip_prefix(&self.base).unwrap_or(path);
        inside.iter().filter(|name| has_dot(name)).count() > asked
    }

    fn glob_paths(&self, pattern: &str) -> Result<glob::Paths, OpError> {
        // The folder's own name may contain `*` or `[`, and so may those of folders in the pattern.
        let base = glob::Pattern::escape(&self.base.to_string_lossy());
        let (folders, rest) = pattern.split_at(self.existing_folders(pattern));
        let escaped = format!("{}{rest}", glob::Pattern::escape(folders));
        let full = if Path::new(pattern).is_absolute() {
            escaped
        } else {
            format!("{base}/{escaped}")
        };
        glob::glob(&full).map_err(|error| {
            OpError::failed(
                format!("`{pattern}` is not a valid file pattern: {}", error.msg),
                "`*` and `?` stand for any characters, `[ab]` for one of them, `[*]` for itself",
            )
        })
    }

    /// How many bytes at the start of a pattern are the path of a folder that exists.
    fn existing_folders(&self, pattern: &str) -> usize {
        let ends = pattern.match_indices('/').map(|(at, _)| at + 1);
        let exists = |end: &usize| pattern.get(..*end).is_some_and(|it| self.path(it).is_dir());
        ends.take_while(exists).last().unwrap_or(0)
    }

    /// One file, by its path relative to the base.
    ///
    /// # Errors
    /// When it is missing, unreadable or no regular file, or changes while it is read.
    pub fn file(&self, name: &str) -> Result<InputFile, OpError> {
        self.digest(name.to_owned(), self.base.join(name))
    }

    /// Those of the `wanted` files that a folder contains, in this order; none when `name` is no
    /// folder.
    ///
    /// # Errors
    /// What [`Files::file`] gives for those that exist.
    pub fn folder(&self, name: &str, wanted: &[&str]) -> Result<Vec<InputFile>, OpError> {
        let folder = self.base.join(name);
        wanted
            .iter()
            .filter(|file| folder.join(file).exists())
            .map(|file| self.digest(format!("{name}/{file}"), folder.join(file)))
            .collect()
    }

    fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.base)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    }

    fn digest(&self, name: String, path: PathBuf) -> Result<InputFile, OpError> {
        let before = read_again(&path, || fs::metadata(&path))?;
        if !before.is_file() {
            let help = if before.is_dir() {
                "name a file in it"
            } else {
                "name a file"
            };
            let what = format!("{} is not a file", path.display());
            return Err(OpError::failed(what, help));
        }
        let input_file = |digest: Digest, len: u64| InputFile {
            name,
            path: path.clone(),
            digest,
            len,
            name_in_key: false,
        };
        let stat = stat_digest(&path, &before);
        let cached = self.digest_cache.and_then(|cache| cache.get(&stat));
        if let Some(digest) = cached {
            return Ok(input_file(digest, before.len()));
        }
        let (digest, len) = read_again(&path, || Digest::of_file(&path))?;
        // Only if `stat` is the same before and after does the digest belong to it.
        let after = read_again(&path, || fs::metadata(&path))?;
        if stat_digest(&path, &after) != stat || len != after.len() {
            return Err(changed(&path));
        }
        if let Some(cache) = self.digest_cache
            && is_past_racy_time(&after)
        {
            cache.add(&stat, &digest);
        }
        Ok(input_file(digest, len))
    }
}

/// Reads a user's file by `read`, again where the error may pass.
fn read_again<T>(path: &Path, read: impl Fn() -> io::Result<T>) -> Result<T, OpError> {
    let disk = Disk::default();
    match disk.attempt_read(path, read) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(unreadable(path, &io::ErrorKind::NotFound.into())),
        Err(error) => Err(unreadable(path, &error.source)),
    }
}

/// Whether a later change of the file is sure to show in its `stat`. A time in the future, as after
/// a clock was set back, is not.
fn is_past_racy_time(metadata: &Metadata) -> bool {
    let Ok(modified) = metadata.modified() else {
        return false;
    };
    let age = SystemTime::now().duration_since(modified);
    age.is_ok_and(|age| age > RACY)
}

impl InputFile {
    /// Opens the file as a stream that is hashed while it is read. What is made of its bytes may be
    /// stored only after [`InputReader::finish`] has succeeded: before that, they may be those of a
    /// file that replaced this one after it was digested.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> Result<InputReader, OpError> {
        let file = File::open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        Ok(InputReader {
            file,
            hasher: blake3::Hasher::new(),
            path: self.path.clone(),
            expected: self.digest,
        })
    }

    /// The bytes of the file, which must be those that it was digested with.
    ///
    /// # Errors
    /// When it cannot be read or has changed.
    pub fn read(&self) -> Result<Vec<u8>, OpError> {
        let bytes = fs::read(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        if Digest::of(&bytes) == self.digest {
            Ok(bytes)
        } else {
            Err(changed(&self.path))
        }
    }

    /// Copies the file, and checks that the copy has the bytes that it was digested with: for code
    /// that maps files or opens them by path. On file systems that can, the copy shares the blocks
    /// of the original.
    ///
    /// # Errors
    /// When it cannot be copied or has changed.
    pub fn copy(&self, to: &Path) -> Result<(), OpError> {
        let copied = fs::copy(&self.path, to).and_then(|_| Digest::of_file(to));
        let (digest, _) = copied.map_err(|error| {
            let (from, to) = (self.path.display(), to.display());
            let what = format!("could not copy {from} to {to}: {error}");
            OpError::failed(what, "check the file, and that there is room in the cache")
        })?;
        if digest == self.digest {
            Ok(())
        } else {
            Err(changed(&self.path))
        }
    }

    /// Makes the name part of the key.
    #[must_use]
    pub fn named(self) -> Self {
        Self {
            name_in_key: true,
            ..self
        }
    }

    /// Whether the file still has the content that it was digested with. Reads it only if its
    /// `stat` is not known.
    pub(crate) fn unchanged(&self, digest_cache: &FileDigests) -> bool {
        let files = Files {
            base: PathBuf::new(),
            digest_cache: Some(digest_cache),
        };
        files
            .digest(self.name.clone(), self.path.clone())
            .is_ok_and(|now| now.digest == self.digest)
    }
}

/// A stream of an input file's bytes, hashed while they are read.
#[derive(Debug)]
pub struct InputReader {
    file: File,
    hasher: blake3::Hasher,
    path: PathBuf,
    expected: Digest,
}

impl Read for InputReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl InputReader {
    /// Reads what is left, and checks that all bytes together are those of the file that was
    /// digested.
    ///
    /// # Errors
    /// When the rest cannot be read, or the file has changed.
    pub fn finish(mut self) -> Result<(), OpError> {
        io::copy(&mut self, &mut io::sink()).map_err(|error| unreadable(&self.path, &error))?;
        if Digest::of_hasher(&self.hasher) == self.expected {
            Ok(())
        } else {
            Err(changed(&self.path))
        }
    }
}

/// Identifies a file's content without reading it. The ctime is part of it since programs can set
/// the mtime back, but not the ctime. The path is not, on a local disk: the file may be reached by
/// a link, or its project may have moved. On others inodes may be those of a mount.
fn stat_digest(path: &Path, metadata: &Metadata) -> Digest {
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
    if FileSystem::of(path) == FileSystem::Local {
        return Digest::parts("blip/stat/2", &[&fields]);
    }
    let real = path.canonicalize();
    let path = real.as_deref().unwrap_or(path).as_os_str().as_bytes();
    Digest::parts("blip/stat/2", &[&fields, path])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IndexKind;
    use crate::cache::{Access, Cache};

    /// The digest under the file's `stat` is a wrong one here, so that it shows whether a file was
    /// read.
    #[test]
    fn a_file_is_not_read_again_by_another_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("project")).unwrap();
        fs::write(path("project/a.tar"), "one").unwrap();
        std::os::unix::fs::symlink(path("project"), path("link")).unwrap();
        let (cache, disk) = (path("cache"), Disk::default());
        let opened = Cache::open(&cache, IndexKind::Memory, disk, Access::Run, |_| true).unwrap();
        let digests = &opened.cache.files;
        let known = Digest::of(b"known");
        let file = path("project/a.tar");
        let stat = stat_digest(&file, &fs::metadata(&file).unwrap());
        digests.add(&stat, &known);
        let digest = |base: &str, name: &str| {
            let files = Files::new(&path(base), Some(digests));
            files.file(name).unwrap().digest
        };
        assert_eq!(digest("project", "a.tar"), known);
        assert_eq!(digest("link", "a.tar"), known);
        assert_eq!(digest("cache", "../project/a.tar"), known);
        fs::rename(path("project"), path("moved")).unwrap();
        assert_eq!(digest("moved", "a.tar"), known);
        fs::write(path("moved/a.tar"), "two").unwrap();
        assert_eq!(digest("moved", "a.tar"), Digest::of(b"two"));
    }
}
