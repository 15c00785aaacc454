//! Whether the files of very many results are there. Asked relative to open folders, which takes a
//! third less time than by path.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, statat};

use super::ledger::StageResult;
use crate::digest::Digest;

/// The folders of records and objects, open.
#[derive(Debug)]
pub(crate) struct Presence {
    records: OwnedFd,
    objects: OwnedFd,
    empty: Digest,
}

impl Presence {
    /// Opens the folders. Nothing where they are not there, and so no result is.
    pub(super) fn open(records: &Path, objects: &Path) -> Option<Self> {
        let folder = |path| {
            open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .ok()
        };
        Some(Self {
            records: folder(records)?,
            objects: folder(objects)?,
            empty: Digest::of(b""),
        })
    }

    /// Whether the record of a result is there, and all its objects. Bytes are not looked at, but
    /// that there are some.
    pub(crate) fn has(&self, finished: &StageResult) -> bool {
        let object =
            |digest| len(&self.objects, digest).is_some_and(|len| len > 0 || *digest == self.empty);
        len(&self.records, &finished.key).is_some_and(|len| len > 0)
            && object(&finished.output)
            && finished.objects.iter().all(object)
    }
}

/// The length of the file of a digest; nothing where there is none.
fn len(folder: &OwnedFd, digest: &Digest) -> Option<i64> {
    // `aa/aabbcc…`, as the operating system takes it.
    let mut path = [0; 68];
    let [first, second, slash, name @ .., _] = &mut path;
    *name = *digest.hex().as_bytes();
    [*first, *second, *slash] = [name[0], name[1], b'/'];
    let file = statat(
        folder,
        CStr::from_bytes_with_nul(&path).ok()?,
        AtFlags::empty(),
    )
    .ok()?;
    (FileType::from_raw_mode(file.st_mode) == FileType::RegularFile).then_some(file.st_size)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::objects::sharded;
    use super::*;

    #[test]
    fn a_result_is_there_with_its_record_and_all_its_objects_and_their_bytes() {
        let cache = tempfile::tempdir().unwrap();
        let (records, objects) = (cache.path().join("results"), cache.path().join("objects"));
        let open = || Presence::open(&records, &objects);
        assert!(open().is_none(), "no folders, no results");
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
        let finished = StageResult {
            objects: [part, empty].into(),
            ..StageResult::bare(key, output)
        };
        assert!(open().unwrap().has(&finished));
        for (folder, digest) in [
            (&records, &key),
            (&objects, &output),
            (&objects, &part),
            (&objects, &empty),
        ] {
            let path = sharded(folder, digest);
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            assert!(
                !open().unwrap().has(&finished),
                "{} is gone",
                path.display()
            );
            fs::create_dir(&path).unwrap();
            assert!(
                !open().unwrap().has(&finished),
                "{} is a folder",
                path.display()
            );
            fs::remove_dir(&path).unwrap();
            fs::write(&path, "").unwrap();
            assert_eq!(
                open().unwrap().has(&finished),
                *digest == empty,
                "{} has no bytes",
                path.display()
            );
            fs::write(&path, bytes).unwrap();
        }
        assert!(open().unwrap().has(&finished));
    }
}
