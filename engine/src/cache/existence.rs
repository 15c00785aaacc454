//! Checks whether the files of very many results exist. `statat` relative to open folders takes a
//! third less time than `stat` by path.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, statat};

use super::stage_result::StageResult;
use crate::digest::Digest;

/// The folders of records and objects, open.
#[derive(Debug)]
pub(crate) struct ExistenceCheck {
    records: OwnedFd,
    objects: OwnedFd,
    /// The digest of no bytes: the only object that may be empty.
    empty: Digest,
}

impl ExistenceCheck {
    /// `None` when one of the folders does not exist, and so no result does.
    pub(super) fn open(records: &Path, objects: &Path) -> Option<Self> {
        Some(Self {
            records: open_folder(records)?,
            objects: open_folder(objects)?,
            empty: Digest::of(b""),
        })
    }

    /// Whether the record of a result and all its objects exist. Of their bytes it only checks that
    /// there are some.
    pub(crate) fn has(&self, result: &StageResult) -> bool {
        self.has_record(&result.key)
            && self.has_object(&result.output)
            && result.objects.iter().all(|object| self.has_object(object))
    }

    fn has_record(&self, key: &Digest) -> bool {
        file_len(&self.records, key).is_some_and(|len| len > 0)
    }

    fn has_object(&self, digest: &Digest) -> bool {
        file_len(&self.objects, digest).is_some_and(|len| len > 0 || *digest == self.empty)
    }
}

fn open_folder(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok()
}

/// The length of the file of a digest; `None` when there is none.
fn file_len(folder: &OwnedFd, digest: &Digest) -> Option<i64> {
    // `aa/aabbcc…` with a NUL at the end, without an allocation: this runs for every object of
    // every stage.
    let mut path = [0; 68];
    let [first, second, slash, name @ .., _] = &mut path;
    *name = *digest.hex().as_bytes();
    [*first, *second, *slash] = [name[0], name[1], b'/'];
    let path = CStr::from_bytes_with_nul(&path).ok()?;
    let stat = statat(folder, path, AtFlags::empty()).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file.then_some(stat.st_size)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::objects::sharded;
    use super::*;

    #[test]
    fn a_result_exists_with_its_record_and_all_its_objects_and_their_bytes() {
        let cache = tempfile::tempdir().unwrap();
        let (records, objects) = (cache.path().join("results"), cache.path().join("objects"));
        assert!(
            ExistenceCheck::open(&records, &objects).is_none(),
            "no folders, no results"
        );
        let [key, output, part] = [b"key", b"out", b"one"].map(|bytes| Digest::of(bytes));
        let empty = Digest::of(b"");
        let write = |folder: &Path, digest: &Digest, bytes: &[u8]| {
            let path = sharded(folder, digest);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write(&records, &key, b"record");
        write(&objects, &output, b"out");
        write(&objects, &part, b"one");
        write(&objects, &empty, b"");
        let result = StageResult {
            objects: [part, empty].into(),
            ..StageResult::bare(key, output)
        };
        let exists = || {
            ExistenceCheck::open(&records, &objects)
                .unwrap()
                .has(&result)
        };
        assert!(exists());
        for (folder, digest) in [
            (&records, &key),
            (&objects, &output),
            (&objects, &part),
            (&objects, &empty),
        ] {
            let path = sharded(folder, digest);
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            assert!(!exists(), "{} is gone", path.display());
            fs::create_dir(&path).unwrap();
            assert!(!exists(), "{} is a folder", path.display());
            fs::remove_dir(&path).unwrap();
            fs::write(&path, "").unwrap();
            assert_eq!(
                exists(),
                *digest == empty,
                "{} has no bytes",
                path.display()
            );
            fs::write(&path, bytes).unwrap();
        }
        assert!(exists());
    }
}
