//! What makes a folder a cache: the file `CACHEDIR.TAG` that blip writes into it.
//!
//! A cache is a folder from which files are removed. So nothing is done in a folder that blip did
//! not create: it may be a project whose own `checkpoints/` look like those of a cache. Tools that
//! make backups know the tag and skip the folder.

use std::io;
use std::path::Path;

use super::disk::{Disk, DiskError};
use super::{CacheError, VERSION, session};
use crate::digest::Digest;

pub(crate) const TAG_NAME: &str = "CACHEDIR.TAG";
/// How every tag begins, whichever program wrote it.
const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";
/// What tells the tag of a blip cache from that of other programs.
const CREATOR: &str = "directory tag created by blip.\n";
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag created by blip.\n\
    # For information about cache directory tags see https://bford.info/cachedir/\n";

/// Folders whose files are in subfolders named by the first digits of a digest.
pub(super) const SHARDED: [&str; 5] = ["results", "objects", "units", "files", "evicted"];
/// Folders whose entries are named by digests.
pub(super) const NAMED_BY_DIGEST: [&str; 6] = [
    "ledgers",
    "checkpoints",
    "growth",
    "exports",
    "maps",
    "leases",
];

/// A folder that is a cache, or may become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheFolder {
    /// It does not exist.
    Missing,
    /// Nothing is in it, or only what a process leaves that was killed while it created a cache.
    Empty,
    /// blip created it.
    Cache,
}

impl CacheFolder {
    /// Looks at a folder, and writes nothing.
    ///
    /// # Errors
    /// [`CacheError::Foreign`] for a folder that holds other files.
    pub fn examine(folder: &Path, disk: &Disk) -> Result<Self, CacheError> {
        if is_tagged(folder, disk)? {
            return Ok(CacheFolder::Cache);
        }
        match disk.metadata(folder)? {
            None => return Ok(CacheFolder::Missing),
            Some(metadata) if !metadata.is_dir() => {
                return Err(CacheError::Io {
                    path: folder.to_path_buf(),
                    source: io::ErrorKind::NotADirectory.into(),
                });
            }
            Some(_) => {}
        }
        if has_files_of_a_cache(folder, disk)? {
            return Ok(CacheFolder::Cache);
        }
        for name in disk.list_names(folder)? {
            if !is_left_by_creation(folder, &name, disk)? {
                // Another process may have created the cache since: the tag comes before all else.
                if is_tagged(folder, disk)? {
                    return Ok(CacheFolder::Cache);
                }
                return Err(CacheError::Foreign {
                    path: folder.to_path_buf(),
                    example: name,
                });
            }
        }
        Ok(CacheFolder::Empty)
    }
}

fn read_tag(folder: &Path, disk: &Disk) -> Result<Option<Vec<u8>>, DiskError> {
    disk.read_unless_folder(&folder.join(TAG_NAME))
}

/// Whether a folder has the tag of a blip cache.
fn is_tagged(folder: &Path, disk: &Disk) -> Result<bool, DiskError> {
    let tag = read_tag(folder, disk)?.unwrap_or_default();
    Ok(tag.starts_with(SIGNATURE.as_bytes()) && String::from_utf8_lossy(&tag).contains(CREATOR))
}

/// Writes the tag into a cache that has none: a new one, or one of an earlier version. The tag of
/// another program stays: it has the same meaning.
pub(super) fn write_tag(folder: &Path, disk: &Disk) -> Result<(), DiskError> {
    let is_tagged = |tag: Vec<u8>| tag.starts_with(SIGNATURE.as_bytes());
    if read_tag(folder, disk)?.is_some_and(is_tagged) {
        return Ok(());
    }
    disk.write(&folder.join(TAG_NAME), TAG.as_bytes())
}

/// Whether a folder has what caches of earlier versions, which have no tag, all have: a version, a
/// lock and a file that only blip names so. Each of them alone may be a project's own.
fn has_files_of_a_cache(folder: &Path, disk: &Disk) -> Result<bool, DiskError> {
    let version = disk.read_unless_folder(&folder.join("version"))?;
    if !version.is_some_and(|text| is_number(&text)) || !folder.join("lock").is_file() {
        return Ok(false);
    }
    for part in SHARDED {
        let part = folder.join(part);
        for shard in disk.list_names(&part)? {
            let names = disk.list_names(&part.join(&shard))?;
            if names.iter().any(|name| is_in_shard(name, &shard)) {
                return Ok(true);
            }
        }
    }
    for part in NAMED_BY_DIGEST {
        let names = disk.list_names(&folder.join(part))?;
        if names.iter().any(|name| name.parse::<Digest>().is_ok()) {
            return Ok(true);
        }
    }
    let runs = disk.list_names(&folder.join("runs"))?;
    Ok(runs.iter().any(|name| is_run_id(name)))
}

fn is_in_shard(name: &str, shard: &str) -> bool {
    shard.len() == 2 && name.starts_with(shard) && name.parse::<Digest>().is_ok()
}

/// Whether a name is that of a run: milliseconds since 1970 in 14 digits, and a process id. The
/// first digit is 0 until the year 2286, and never in a date such as 20240131120000.
pub fn is_run_id(name: &str) -> bool {
    name.split_once('-').is_some_and(|(time, pid)| {
        time.len() == 14
            && time.starts_with('0')
            && is_number(time.as_bytes())
            && is_number(pid.as_bytes())
    })
}

/// Whether this is a number, and possibly white space around it.
fn is_number(text: &[u8]) -> bool {
    let digits = text.trim_ascii();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Whether an entry of a folder is one that is there before the tag is, or is empty.
fn is_left_by_creation(folder: &Path, name: &str, disk: &Disk) -> Result<bool, DiskError> {
    let path = folder.join(name);
    Ok(match name {
        "lock" => path.is_file(),
        "version" => is_version(
            disk.read_unless_folder(&path)?,
            folder.join("lock").is_file(),
        ),
        "tmp" => {
            let names = disk.list_names(&path)?;
            path.is_dir() && names.iter().all(|name| session::is_session_name(name))
        }
        _ => {
            let is_ours = SHARDED.contains(&name) || NAMED_BY_DIGEST.contains(&name);
            (is_ours || name == "runs") && path.is_dir() && disk.list(&path)?.is_empty()
        }
    })
}

/// Whether this is the content of a version file: our own, or any number beside a lock. After a
/// power cut either of the two names may be there alone.
fn is_version(text: Option<Vec<u8>>, has_lock: bool) -> bool {
    let text = text.unwrap_or_default();
    text.trim_ascii() == VERSION.as_bytes() || (has_lock && is_number(&text))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::super::disk::{FaultAction, Hook, Syscall};
    use super::*;

    fn examine(folder: &Path) -> Result<CacheFolder, String> {
        CacheFolder::examine(folder, &Disk::default()).map_err(|error| error.to_string())
    }

    /// A folder with a file at each of these paths.
    fn folder_with(paths: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in paths {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "7").unwrap();
        }
        folder
    }

    #[test]
    fn a_tag_makes_a_cache_and_that_of_another_program_does_not() {
        let folder = folder_with(&["notes.txt"]);
        write_tag(folder.path(), &Disk::default()).unwrap();
        assert_eq!(examine(folder.path()), Ok(CacheFolder::Cache));
        let tag = format!("{SIGNATURE}\n# created by cargo\n");
        fs::write(folder.path().join(TAG_NAME), &tag).unwrap();
        let error = format!(
            "{} is not a blip cache: it contains `CACHEDIR.TAG`",
            folder.path().display()
        );
        assert_eq!(examine(folder.path()), Err(error));
        write_tag(folder.path(), &Disk::default()).unwrap();
        let kept = fs::read_to_string(folder.path().join(TAG_NAME)).unwrap();
        assert_eq!(kept, tag, "the tag of another program stays");
    }

    /// A disk on which another process creates the cache while its folder is listed.
    struct CreatedMeanwhile(PathBuf);

    impl Hook for CreatedMeanwhile {
        fn before(&self, _: Syscall, _: &Path) -> FaultAction {
            FaultAction::Proceed
        }

        fn after(&self, _: Syscall, _: &Path) {}

        fn before_read(&self, path: &Path) -> io::Result<()> {
            if path == self.0.join("version") {
                write_tag(&self.0, &Disk::default()).unwrap();
                fs::create_dir_all(self.0.join("objects/ab/cd"))?;
            }
            Ok(())
        }
    }

    #[test]
    fn a_cache_that_another_process_creates_meanwhile_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::with_hook(Arc::new(CreatedMeanwhile(folder.path().to_path_buf())));
        let found = CacheFolder::examine(folder.path(), &disk);
        assert_eq!(
            found.map_err(|error| error.to_string()),
            Ok(CacheFolder::Cache)
        );
    }

    #[test]
    fn caches_of_earlier_versions_are_known_by_their_files() {
        let digest = Digest::of(b"x").to_string();
        let shard = &digest[..2];
        let files = [
            format!("results/{shard}/{digest}"),
            format!("objects/{shard}/{digest}"),
            format!("ledgers/{digest}"),
            format!("checkpoints/{digest}/000000000001/state"),
            "runs/01700000000000-12/events.jsonl".to_owned(),
        ];
        for file in files {
            let folder = folder_with(&[&file, "lock", "version", "notes.txt"]);
            assert_eq!(examine(folder.path()), Ok(CacheFolder::Cache), "{file}");
            for part in ["lock", "version"] {
                let other = folder_with(&[&file, part]);
                assert!(examine(other.path()).is_err(), "{file} of a project");
            }
        }
    }

    #[test]
    fn a_killed_creation_leaves_what_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            examine(&folder.path().join("none")),
            Ok(CacheFolder::Missing)
        );
        assert_eq!(examine(folder.path()), Ok(CacheFolder::Empty));
        let session = "tmp/12-0123456789ab/0";
        let left = folder_with(&["lock", "version", session, "tmp/12-0123456789ab.lock"]);
        fs::create_dir(left.path().join("runs")).unwrap();
        assert_eq!(examine(left.path()), Ok(CacheFolder::Empty));
        let version = tempfile::tempdir().unwrap();
        fs::write(version.path().join("version"), "1\n").unwrap();
        assert_eq!(
            examine(version.path()),
            Ok(CacheFolder::Empty),
            "after a power cut"
        );
        for (foreign, named) in [
            ("version", "version"),
            ("tmp/scratch.txt", "tmp"),
            ("objects/ab/cd", "objects"),
            ("runs/experiment-1/log", "runs"),
            ("runs/20240131120000-1/model.pt", "runs"),
            ("checkpoints/step-100/model", "checkpoints"),
        ] {
            let folder = folder_with(&[foreign]);
            let error = format!(
                "{} is not a blip cache: it contains `{named}`",
                folder.path().display()
            );
            assert_eq!(examine(folder.path()), Err(error));
        }
    }
}
