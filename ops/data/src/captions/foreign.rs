//! What a file is that was given for a list: recognised by how it begins.

/// How much of a file is looked at.
pub(super) const HEAD_BYTES: u64 = 1024;
/// Characters of a first line that a message shows.
const SHOWN_MAX: usize = 60;

/// First bytes, what the file then is, and what to do.
const KNOWN: [(&[u8], &str); 15] = [
    (
        b"version https://git",
        "it is a Git LFS pointer: fetch the file itself (`git lfs pull`)",
    ),
    (
        b"\x1f\x8b",
        "it is compressed with gzip: decompress it (`gunzip`)",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "it is compressed with zstd: decompress it (`unzstd`)",
    ),
    (
        b"\xfd7zXZ\0",
        "it is compressed with xz: decompress it (`unxz`)",
    ),
    (
        b"BZh",
        "it is compressed with bzip2: decompress it (`bunzip2`)",
    ),
    (b"PK\x03\x04", "it is a zip file: unpack it"),
    (
        b"PAR1",
        "it is a Parquet file: make it JSON, as by pandas' `read_parquet(file).to_json(list, \
         orient=\"records\", lines=True)`",
    ),
    (
        b"ARROW1",
        "it is an Arrow file: make it JSON, as by pandas' `read_feather(file).to_json(list, \
         orient=\"records\", lines=True)`",
    ),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"\x89PNG", IMAGE),
    (b"\xff\xd8\xff", IMAGE),
    (b"<!DOCTYPE", HTML),
    (b"<!doctype", HTML),
    (b"<html", HTML),
];
const UTF_16: &str = "it is UTF-16: make it UTF-8 (`iconv -f UTF-16 -t UTF-8`)";
const IMAGE: &str = "it is an image";
const HTML: &str = "it is an HTML page, as a failed download leaves it";
/// Where tar files have their magic.
const TAR: std::ops::Range<usize> = 257..262;

/// What a file is that begins like this, and what to do; nothing when it may be a list in JSON.
pub(super) fn describe(head: &[u8]) -> Option<String> {
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some((*what).to_owned());
    }
    if head.get(TAR) == Some(b"ustar") {
        return Some("it is a tar file: `read.webdataset` reads shards".to_owned());
    }
    if let [0, b'[' | b'{', ..] | [b'[' | b'{', 0, ..] = head {
        return Some(UTF_16.to_owned());
    }
    table(head)
}

/// A file with one entry a line, its values separated by tabs or commas.
fn table(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let line = text.lines().next().unwrap_or_default();
    if line.starts_with(['[', '{']) || line.contains('\0') {
        return None;
    }
    let (what, separator) = if line.contains('\t') {
        ("tabs (TSV)", ", sep=\"\\t\"")
    } else if line.contains(',') {
        ("commas (CSV)", "")
    } else if line.contains(';') {
        ("semicolons (CSV)", ", sep=\";\"")
    } else {
        return None;
    };
    let shown: String = line.chars().take(SHOWN_MAX).collect();
    Some(format!(
        "it is a table separated by {what}, which begins with `{}`: make it JSON, as by pandas' \
         `read_csv(file{separator}).to_json(list, orient=\"records\", lines=True)`",
        shown.escape_debug()
    ))
}
