//! All reads of the cache's files.
//!
//! A read that fails says nothing about the bytes: only bytes that were read and are wrong make a
//! file corrupt. What may pass, as an error of a network disk or a lack of file descriptors may, is
//! tried again after a short pause; what does not pass is an error that names the file.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::{Disk, DiskError, Syscall};
use crate::digest::Digest;

/// The pauses before the further attempts at a read.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
];

/// Errors that say nothing about the file: EIO, EAGAIN, ENOMEM, EBUSY, ENFILE, EMFILE, ETIMEDOUT,
/// ESTALE, and those of a network that is down.
const PASSING: [i32; 10] = [5, 11, 12, 16, 23, 24, 100, 101, 110, 116];

impl Disk {
    /// The bytes of a file; `None` where there is none.
    ///
    /// # Errors
    /// [`DiskError`], as every method here. [`DiskError::is_a_folder`] where there is a folder.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        self.attempt_read(path, || fs::read(path))
    }

    /// The same, with nothing where there is a folder.
    pub(crate) fn read_unless_folder(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        match self.read(path) {
            Err(error) if error.is_a_folder() => Ok(None),
            read => read,
        }
    }

    /// The digest of a file's content; `None` where there is no file.
    pub fn digest_of(&self, path: &Path) -> Result<Option<Digest>, DiskError> {
        let read = self.attempt_read(path, || Digest::of_file(path))?;
        Ok(read.map(|(digest, _)| digest))
    }

    /// What `stat` says of a file; `None` where there is none.
    pub(crate) fn metadata(&self, path: &Path) -> Result<Option<Metadata>, DiskError> {
        self.attempt_read(path, || fs::metadata(path))
    }

    /// The paths in a folder, sorted; none where it does not exist.
    pub(crate) fn list(&self, folder: &Path) -> Result<Vec<PathBuf>, DiskError> {
        let list = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(folder)?
                .map(|entry| Ok(entry?.path()))
                .collect()
        };
        let mut paths = self.attempt_read(folder, list)?.unwrap_or_default();
        paths.sort();
        Ok(paths)
    }

    /// The names in a folder that are UTF-8, sorted; none where it does not exist.
    pub(crate) fn list_names(&self, folder: &Path) -> Result<Vec<String>, DiskError> {
        let paths = self.list(folder)?;
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(paths.iter().filter_map(name).collect())
    }

    /// Reads by `read`, again where the error may pass. `None` where there is nothing to read.
    pub(crate) fn attempt_read<T>(
        &self,
        path: &Path,
        read: impl Fn() -> io::Result<T>,
    ) -> Result<Option<T>, DiskError> {
        let mut pauses = PAUSES.iter();
        loop {
            let source = match self.before_read(path).and_then(|()| read()) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => error,
            };
            match pauses.next().filter(|_| may_pass(&source)) {
                Some(pause) => std::thread::sleep(*pause),
                None => {
                    return Err(DiskError {
                        call: Syscall::Read,
                        path: path.to_path_buf(),
                        source,
                    });
                }
            }
        }
    }
}

/// Whether there is no such file. Where a file has the name of a folder, nothing is in that folder.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether the same call may succeed a moment later.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::Interrupted || code.is_some_and(|code| PASSING.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::disk::{FaultAction, Hook};
    use super::*;

    /// A disk whose first reads fail.
    struct FailingReads {
        error: i32,
        failures: usize,
        reads: AtomicUsize,
    }

    impl Hook for FailingReads {
        fn before(&self, _: Syscall, _: &Path) -> FaultAction {
            FaultAction::Proceed
        }

        fn after(&self, _: Syscall, _: &Path) {}

        fn before_read(&self, _: &Path) -> io::Result<()> {
            if self.reads.fetch_add(1, Ordering::SeqCst) < self.failures {
                return Err(io::Error::from_raw_os_error(self.error));
            }
            Ok(())
        }
    }

    /// Reads a file whose first reads fail; returns the number of attempts too.
    fn read(error: i32, failures: usize) -> (Result<Option<Vec<u8>>, String>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "bytes").unwrap();
        let hook = Arc::new(FailingReads {
            error,
            failures,
            reads: AtomicUsize::new(0),
        });
        let read = Disk::with_hook(hook.clone()).read(&path);
        let text = |error: DiskError| {
            let text = format!("{error}; {}", error.help());
            text.replace(&folder.path().display().to_string(), "FOLDER")
        };
        (read.map_err(text), hook.reads.load(Ordering::SeqCst))
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_stays_is_an_error() {
        let found = || Ok(Some(b"bytes".to_vec()));
        for error in [5, 24, 116] {
            assert_eq!(read(error, 3), (found(), 4), "{error}");
        }
        let text = "could not read FOLDER/file: Input/output error (os error 5); \
                    check the disk and run again; finished results are kept";
        assert_eq!(read(5, 4), (Err(text.to_owned()), 4));
        let text = "could not read FOLDER/file: Too many open files (os error 24); \
                    raise the limit of open files (`ulimit -n`) and run again";
        assert_eq!(read(24, 4), (Err(text.to_owned()), 4));
        let text = "could not read FOLDER/file: Permission denied (os error 13); \
                    make the file readable, or name another cache folder with --cache";
        assert_eq!(read(13, 1), (Err(text.to_owned()), 1));
        assert_eq!(read(2, 1), (Ok(None), 1));
    }

    #[test]
    fn a_folder_is_no_file_and_what_is_in_a_file_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        assert!(disk.read(folder.path()).unwrap_err().is_a_folder());
        let file = folder.path().join("file");
        fs::write(&file, "bytes").unwrap();
        assert_eq!(disk.read(&file.join("inner")).unwrap(), None);
        assert_eq!(disk.list(&file).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(disk.list_names(folder.path()).unwrap(), ["file"]);
    }
}
