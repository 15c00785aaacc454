//! What a file is that was given for a list: recognised by how it begins.

use crate::file_kind::{self, FileKind};

/// How much of a file is looked at.
pub(super) const HEAD_BYTES: u64 = 1024;
/// Characters of a first line that a message shows.
const SHOWN_MAX: usize = 60;

const UTF_16: &str = "it is UTF-16: make it UTF-8 (`iconv -f UTF-16 -t UTF-8`)";
/// Where tar files have their magic.
const TAR: std::ops::Range<usize> = 257..262;

/// What a file is that begins like this, and what to do; nothing when it may be a list in JSON.
pub(super) fn describe(head: &[u8]) -> Option<String> {
    if let Some(what) = FileKind::of(head).and_then(describe_kind) {
        return Some(what);
    }
    if head.get(TAR) == Some(b"ustar") {
        return Some("it is a tar file: `read.webdataset` reads shards".to_owned());
    }
    if let [0, b'[' | b'{', ..] | [b'[' | b'{', 0, ..] = head {
        return Some(UTF_16.to_owned());
    }
    table(head)
}

fn describe_kind(kind: FileKind) -> Option<String> {
    let what = match kind {
        FileKind::Compressed(name, program) => {
            return Some(format!(
                "it is compressed with {name}: decompress it (`{program}`)"
            ));
        }
        FileKind::Zip => "it is a zip file: unpack it",
        FileKind::LfsPointer => file_kind::LFS_POINTER,
        FileKind::Parquet => {
            "it is a Parquet file: make it JSON, as by pandas' `read_parquet(file).to_json(list, \
             orient=\"records\", lines=True)`"
        }
        FileKind::Arrow => {
            "it is an Arrow file: make it JSON, as by pandas' `read_feather(file).to_json(list, \
             orient=\"records\", lines=True)`"
        }
        FileKind::Utf16 => UTF_16,
        FileKind::Image => "it is an image",
        FileKind::Html => file_kind::HTML,
        // A list may begin with a mark, and of the others the parser says that they are no JSON.
        FileKind::MarkedText | FileKind::Lz4 | FileKind::SevenZip => return None,
    };
    Some(what.to_owned())
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
