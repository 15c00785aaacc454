//! What a file is, recognised by its first bytes.

/// Kinds of files that are given for shards or lists and are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    /// The name of the compression and of the program that undoes it.
    Compressed(&'static str, &'static str),
    Lz4,
    Zip,
    SevenZip,
    /// What git leaves where a file in Git LFS was not fetched.
    LfsPointer,
    Parquet,
    Arrow,
    Utf16,
    /// A text with a byte-order mark of UTF-8.
    MarkedText,
    Image,
    Html,
}

const FIRST_BYTES: [(&[u8], FileKind); 18] = [
    (b"\x1f\x8b", FileKind::Compressed("gzip", "gunzip")),
    (b"\x28\xb5\x2f\xfd", FileKind::Compressed("zstd", "unzstd")),
    (b"\xfd7zXZ\0", FileKind::Compressed("xz", "unxz")),
    (b"BZh", FileKind::Compressed("bzip2", "bunzip2")),
    (b"\x04\x22\x4d\x18", FileKind::Lz4),
    (b"PK\x03\x04", FileKind::Zip),
    (b"7z\xbc\xaf", FileKind::SevenZip),
    (
        b"version https://git-lfs.github.com/spec/",
        FileKind::LfsPointer,
    ),
    (b"PAR1", FileKind::Parquet),
    (b"ARROW1", FileKind::Arrow),
    (b"\xff\xfe", FileKind::Utf16),
    (b"\xfe\xff", FileKind::Utf16),
    (b"\xef\xbb\xbf", FileKind::MarkedText),
    (b"\x89PNG", FileKind::Image),
    (b"\xff\xd8\xff", FileKind::Image),
    (b"<!DOCTYPE", FileKind::Html),
    (b"<!doctype", FileKind::Html),
    (b"<html", FileKind::Html),
];

pub(crate) const LFS_POINTER: &str =
    "it is a Git LFS pointer: fetch the file itself (`git lfs pull`)";
pub(crate) const HTML: &str = "it is an HTML page, as a failed download leaves it";

impl FileKind {
    /// `None` when the bytes are those of no kind here.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let known = FIRST_BYTES
            .iter()
            .find(|(first, _)| head.starts_with(first));
        known.map(|(_, kind)| *kind)
    }
}
