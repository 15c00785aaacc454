//! The formats in which results leave the cache. What is written is a function of the result alone,
//! byte for byte; only a model card depends on the upstream stages, too.

mod captions;
mod huggingface;
mod json;
mod text;
mod webdataset;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use blip_engine::cache::disk::limit_help;
use blip_engine::{ExportOp, OpError};
use serde::Serialize;

/// All export formats.
pub(crate) fn formats() -> [ExportOp; 5] {
    [
        captions::format(),
        huggingface::format(),
        json::format(),
        text::format(),
        webdataset::format(),
    ]
}

/// A file that an export writes. The engine syncs it.
struct OutputFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl OutputFile {
    fn create(path: PathBuf) -> Result<Self, OpError> {
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::with_capacity(1 << 20, file),
            }),
            Err(error) => Err(unwritable(&path, &error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OpError> {
        self.file
            .write_all(bytes)
            .map_err(|error| unwritable(&self.path, &error))
    }

    fn finish(mut self) -> Result<(), OpError> {
        self.file
            .flush()
            .map_err(|error| unwritable(&self.path, &error))
    }
}

/// A JSON list of rows, one a line, so that it can be read and compared line by line.
struct RowList {
    file: OutputFile,
    count: u64,
}

impl RowList {
    fn create(path: PathBuf) -> Result<Self, OpError> {
        let file = OutputFile::create(path)?;
        Ok(Self { file, count: 0 })
    }

    fn add(&mut self, row: &impl Serialize) -> Result<(), OpError> {
        self.file
            .write(if self.count == 0 { b"[\n" } else { b",\n" })?;
        self.count += 1;
        self.file
            .write(&serde_json::to_vec(row).expect("a row is plain data"))
    }

    /// Says how many rows it has.
    fn finish(mut self) -> Result<u64, OpError> {
        self.file
            .write(if self.count == 0 { b"[]\n" } else { b"\n]\n" })?;
        self.file.finish()?;
        Ok(self.count)
    }
}

fn unwritable(path: &Path, error: &io::Error) -> OpError {
    // The folder is a temporary one of the engine: the user knows the name only.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let help = limit_help(error).unwrap_or(match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make the export's folder writable"
        }
        io::ErrorKind::InvalidFilename => "export to a shorter name",
        _ => "check the disk of the export's folder",
    });
    OpError::failed(format!("could not write {name}: {error}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_help() {
        // Writes to this file fail as on a full disk.
        let mut file = OutputFile::create(PathBuf::from("/dev/full")).unwrap();
        let error = file.write(b"x").and_then(|()| file.finish()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not write full: No space left on device (os error 28)"
        );
        assert_eq!(
            error.help(),
            "the disk is full: free some space and run again; finished results are kept"
        );
        let error = OutputFile::create(PathBuf::from("/nowhere/pairs.json"))
            .map(drop)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not write pairs.json: No such file or directory (os error 2)"
        );
        assert_eq!(error.help(), "check the disk of the export's folder");
    }
}
