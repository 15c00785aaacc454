//! What a file is that was given for a tar file: recognised by its first bytes.

/// First bytes, what the file then is, and what to do.
const KNOWN: [(&[u8], &str); 15] = [
    (
        b"\x1f\x8b",
        "it is compressed with gzip: decompress it (`gunzip`), images are read from inside the tar",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "it is compressed with zstd: decompress it (`unzstd`), images are read from inside the tar",
    ),
    (
        b"\xfd7zXZ\0",
        "it is compressed with xz: decompress it (`unxz`), images are read from inside the tar",
    ),
    (
        b"BZh",
        "it is compressed with bzip2: decompress it (`bunzip2`), images are read from inside the \
         tar",
    ),
    (
        b"\x04\x22\x4d\x18",
        "it is compressed with lz4: decompress it",
    ),
    (
        b"PK\x03\x04",
        "it is a zip file: pack its files as a tar file",
    ),
    (
        b"7z\xbc\xaf",
        "it is a 7z file: pack its files as a tar file",
    ),
    (
        b"version https://git-lfs.github.com/spec/",
        "it is a Git LFS pointer: fetch the file itself (`git lfs pull`)",
    ),
    (b"PAR1", "it is a Parquet file"),
    (b"\x89PNG", FILES_LAYOUT),
    (b"\xff\xd8\xff", FILES_LAYOUT),
    (b"<!DOCTYPE", HTML),
    (b"<!doctype", HTML),
    (b"<html", HTML),
    (b"\xef\xbb\xbf", "it is a text file"),
];

const FILES_LAYOUT: &str = "it is an image: pack each folder of images and texts as a shard \
                            (`tar --sort=name -cf`)";
const HTML: &str = "it is an HTML page, as a failed download leaves it";

/// The reason why a file with these first bytes is no shard.
pub(super) fn describe(start: &[u8]) -> String {
    let known = KNOWN.iter().find(|(magic, _)| start.starts_with(magic));
    match known {
        Some((_, what)) => (*what).to_owned(),
        None => "it is no tar file, or is corrupt from its first byte".to_owned(),
    }
}
