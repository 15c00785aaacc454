//! Small files that a user names, read up to a limit: a device without an end, or a file of another
//! kind, must not fill the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::humanize::bytes;

/// The text of a file of at most `max` bytes.
///
/// # Errors
/// As opening and reading it give, [`io::ErrorKind::FileTooLarge`], and
/// [`io::ErrorKind::InvalidData`] for what is not UTF-8.
pub(crate) fn read_text(path: &Path, max: u64) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        let what = format!("it is larger than {}", bytes(max));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    String::from_utf8(text).map_err(|_| {
        let what = "stream did not contain valid UTF-8";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_an_error() {
        let error = read_text(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is larger than 1.0 MiB");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_text(file.path(), 5).unwrap(), "12345");
        assert!(read_text(file.path(), 4).is_err());
        std::fs::write(file.path(), [0xff]).unwrap();
        let error = read_text(file.path(), 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
