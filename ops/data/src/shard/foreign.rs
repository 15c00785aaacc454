//! What a file is that was given for a tar file.

use crate::file_kind::{self, FileKind};

/// The reason why a file with these first bytes is no shard.
pub(super) fn describe(start: &[u8]) -> String {
    let what = match FileKind::of(start) {
        Some(FileKind::Compressed(name, program)) => {
            return format!(
                "it is compressed with {name}: decompress it (`{program}`), images are read from \
                 inside the tar"
            );
        }
        Some(FileKind::Lz4) => "it is compressed with lz4: decompress it",
        Some(FileKind::Zip) => "it is a zip file: pack its files as a tar file",
        Some(FileKind::SevenZip) => "it is a 7z file: pack its files as a tar file",
        Some(FileKind::LfsPointer) => file_kind::LFS_POINTER,
        Some(FileKind::Parquet) => "it is a Parquet file",
        Some(FileKind::Image) => {
            "it is an image: pack each folder of images and texts as a shard \
             (`tar --sort=name -cf`)"
        }
        Some(FileKind::Html) => file_kind::HTML,
        Some(FileKind::MarkedText) => "it is a text file",
        Some(FileKind::Arrow | FileKind::Utf16) | None => {
            "it is no tar file, or is corrupt from its first byte"
        }
    };
    what.to_owned()
}
