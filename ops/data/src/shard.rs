//! Webdataset shards: tar files whose members form samples by their names (webdataset 1.0
//! `tariterators.py`).
//!
//! A member's key is its name up to the first dot of its last part, the rest is its suffix. Members
//! of one key are adjacent. Nothing is unpacked: images are addressed by their offset in the shard.
//! A sample that cannot be used is rejected with a reason, and of a corrupt shard everything before
//! the corruption is used.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};

/// The largest accepted text or JSON member.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// The largest accepted image member.
const IMAGE_BYTES_MAX: u64 = 64 << 20;
const IMAGE_SUFFIXES: [&str; 7] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff"];

/// A sample as a shard has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawSample {
    pub key: String,
    /// The offset of the image's bytes in the shard.
    pub offset: u64,
    /// The encoded image.
    pub image: Vec<u8>,
    /// The caption.
    pub text: String,
    /// The `.json` member, if there is one.
    pub json: Option<serde_json::Value>,
}

/// A sample that cannot be used, or the rest of a shard. Reasons are stored with a stage's result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectedSample {
    /// Empty for the rest of a shard.
    pub key: String,
    pub reason: String,
}

/// The members of one key that were read so far.
#[derive(Default)]
struct Group {
    key: String,
    /// By suffix: offset and bytes.
    members: BTreeMap<String, (u64, Vec<u8>)>,
    rejected: Option<String>,
}

/// Reads a shard from beginning to end, passing each sample to `take`.
///
/// # Errors
/// The outer one is that of reading; the inner one is that of `take`, which ends the reading.
pub fn read<E>(
    shard: impl Read,
    mut take: impl FnMut(Result<RawSample, RejectedSample>) -> Result<(), E>,
) -> Result<Result<(), E>, io::Error> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, shard));
    let mut group = Group::default();
    // The end of the last good member. Of errors only this is reported: the tar reader's messages
    // may quote the file.
    let mut end_of_good = 0;
    let mut is_corrupt = false;
    for entry in archive.entries()? {
        let Ok(entry) = entry else {
            is_corrupt = true;
            break;
        };
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // webdataset ignores what its own tools note about a shard.
        if !entry.header().entry_type().is_file() || name.contains("__meta__") {
            continue;
        }
        let (key, suffix) = split_name(&name);
        if key != group.key {
            if let Err(error) = pass_on(std::mem::take(&mut group), &mut take) {
                return Ok(Err(error));
            }
            key.clone_into(&mut group.key);
        }
        let offset = entry.raw_file_position();
        let end = offset.saturating_add(entry.size());
        let Ok(bytes) = read_member(entry, &suffix) else {
            is_corrupt = true;
            break;
        };
        group.add(suffix, offset, bytes);
        end_of_good = end;
    }
    if is_corrupt {
        // The last sample may be incomplete: it is not used.
        return Ok(take(Err(RejectedSample {
            key: String::new(),
            reason: corrupt_reason(end_of_good),
        })));
    }
    Ok(pass_on(group, &mut take))
}

fn corrupt_reason(end_of_good: u64) -> String {
    match end_of_good {
        0 => "it is not a tar file, or is corrupt from its first byte".to_owned(),
        end => format!("the shard is corrupt or ends early: nothing after byte {end} is used"),
    }
}

/// The bytes of a member, empty if its suffix is not used. The inner error is the reason to reject
/// the sample.
fn read_member<R: Read>(
    mut entry: tar::Entry<'_, R>,
    suffix: &str,
) -> io::Result<Result<Vec<u8>, String>> {
    let limit = match suffix {
        "txt" | "json" => TEXT_BYTES_MAX,
        _ if IMAGE_SUFFIXES.contains(&suffix) => IMAGE_BYTES_MAX,
        _ => return Ok(Ok(Vec::new())),
    };
    let size = entry.size();
    if size > limit {
        return Ok(Err(format!(
            "its .{suffix} has {size} bytes; at most {limit} are read"
        )));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        let kind = io::ErrorKind::UnexpectedEof;
        return Err(io::Error::new(kind, "the member is truncated"));
    }
    Ok(Ok(bytes))
}

/// Key and lower-case suffix of a member's name.
fn split_name(name: &str) -> (&str, String) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, file) = name.split_at(base);
    let dot = file.find('.').unwrap_or(file.len());
    let suffix = file.get(dot + 1..).unwrap_or("").to_lowercase();
    let key = name.get(..folder.len() + dot).unwrap_or(name);
    (key, suffix)
}

impl Group {
    fn add(&mut self, suffix: String, offset: u64, bytes: Result<Vec<u8>, String>) {
        match bytes {
            Err(reason) => self.rejected = Some(reason),
            Ok(_) if self.members.contains_key(&suffix) => {
                self.rejected = Some(format!("it has two .{suffix} members"));
            }
            Ok(bytes) => {
                self.members.insert(suffix, (offset, bytes));
            }
        }
    }

    fn into_sample(mut self) -> Result<RawSample, String> {
        if let Some(reason) = self.rejected {
            return Err(reason);
        }
        let mut images = IMAGE_SUFFIXES
            .iter()
            .filter_map(|suffix| self.members.remove(*suffix));
        let Some((offset, image)) = images.next() else {
            return Err("it has no image".to_owned());
        };
        if images.next().is_some() {
            return Err("it has several images".to_owned());
        }
        let json: Option<serde_json::Value> = match self.members.get("json") {
            Some((_, bytes)) => serde_json::from_slice(bytes)
                .map(Some)
                .map_err(|error| format!("its .json is no JSON: {error}"))?,
            None => None,
        };
        let text = match self.members.remove("txt") {
            Some((_, bytes)) => {
                String::from_utf8(bytes).map_err(|_| "its .txt is not UTF-8".to_owned())?
            }
            None => json_caption(json.as_ref())
                .ok_or("it has neither a .txt nor a caption in its .json")?,
        };
        if text.trim().is_empty() {
            return Err("its caption is empty".to_owned());
        }
        Ok(RawSample {
            key: self.key,
            offset,
            image,
            text: text.trim().to_owned(),
            json,
        })
    }
}

/// Passes a completed group to `take`. The first group of a shard is empty.
fn pass_on<E>(
    group: Group,
    take: &mut impl FnMut(Result<RawSample, RejectedSample>) -> Result<(), E>,
) -> Result<(), E> {
    if group.members.is_empty() && group.rejected.is_none() {
        return Ok(());
    }
    let key = group.key.clone();
    let sample = group.into_sample();
    take(sample.map_err(|reason| RejectedSample { key, reason }))
}

fn json_caption(json: Option<&serde_json::Value>) -> Option<String> {
    let caption = json?.get("caption")?;
    Some(caption.as_str()?.to_owned())
}

/// Writes a shard: the same samples always give the same bytes.
pub struct ShardWriter<W: Write> {
    tar: tar::Builder<Counting<W>>,
}

/// Counts the bytes that are written.
struct Counting<W> {
    target: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.target.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

impl<W: Write> std::fmt::Debug for ShardWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardWriter").finish_non_exhaustive()
    }
}

impl<W: Write> ShardWriter<W> {
    pub fn new(target: W) -> Self {
        Self {
            tar: tar::Builder::new(Counting { target, bytes: 0 }),
        }
    }

    /// Adds a member and returns the offset of its bytes. The members of a key must be added one
    /// after the other.
    ///
    /// # Errors
    /// Those of writing.
    pub fn add(&mut self, key: &str, suffix: &str, bytes: &[u8]) -> io::Result<u64> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.tar
            .append_data(&mut header, format!("{key}.{suffix}"), bytes)?;
        // The bytes are the last thing written, padded to blocks. Counting from the start would
        // have to know how many blocks the header took, which long names need more of.
        Ok(self.bytes() - (bytes.len() as u64).next_multiple_of(512))
    }

    /// The number of bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.tar.get_ref().bytes
    }

    /// Ends the shard.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.tar.into_inner()?.target)
    }
}

/// A key as a file name: at most 80 letters, digits, `-` and `_`. So it has no folders and no dot,
/// which would end the key.
pub fn safe_key(key: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let safe: String = key
        .chars()
        .take(80)
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    if safe.is_empty() {
        "_".to_owned()
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Key, suffix and bytes.
    type Member<'a> = (&'a str, &'a str, &'a [u8]);

    fn write(members: &[Member<'_>]) -> Vec<u8> {
        let mut writer = ShardWriter::new(Vec::new());
        for (key, suffix, bytes) in members {
            writer.add(key, suffix, bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read_all(bytes: &[u8]) -> Vec<Result<RawSample, RejectedSample>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut samples = Vec::new();
        read(File::open(file.path()).unwrap(), |sample| {
            samples.push(sample);
            Ok::<(), ()>(())
        })
        .unwrap()
        .unwrap();
        samples
    }

    fn reasons(bytes: &[u8]) -> Vec<String> {
        read_all(bytes)
            .into_iter()
            .filter_map(|sample| Some(sample.err()?.reason))
            .collect()
    }

    #[test]
    fn samples_are_read_with_their_offsets() {
        let bytes = write(&[("a/x.1", "jpg", b"image"), ("a/x.1", "txt", b"words")]);
        assert_eq!(
            reasons(&bytes),
            ["it has no image"],
            "the first dot ends the key"
        );
        let bytes = write(&[
            ("x", "JPG", b"image"),
            ("x", "txt", b" words\n"),
            ("y", "png", b"other"),
            ("y", "json", b"{\"caption\":\"c\"}"),
        ]);
        let found: Vec<RawSample> = read_all(&bytes).into_iter().map(Result::unwrap).collect();
        assert_eq!(
            (found[0].key.as_str(), found[0].text.as_str()),
            ("x", "words")
        );
        assert_eq!((found[1].key.as_str(), found[1].text.as_str()), ("y", "c"));
        let at = found[1].offset as usize;
        assert_eq!(&bytes[at..at + 5], b"other");
    }

    #[test]
    fn the_writer_returns_offsets() {
        let mut writer = ShardWriter::new(Vec::new());
        let long = "k".repeat(150);
        let offsets: Vec<u64> = [("a", "one"), (long.as_str(), "two"), ("b", "three")]
            .map(|(key, text)| writer.add(key, "jpg", text.as_bytes()).unwrap())
            .to_vec();
        let bytes = writer.finish().unwrap();
        for (offset, text) in offsets.into_iter().zip(["one", "two", "three"]) {
            assert_eq!(
                &bytes[offset as usize..offset as usize + text.len()],
                text.as_bytes()
            );
        }
    }

    #[test]
    fn samples_are_rejected_with_a_reason() {
        let long = vec![b'x'; (TEXT_BYTES_MAX + 1) as usize];
        let cases: [(&[Member<'_>], &str); 6] = [
            (&[("x", "txt", b"words")], "it has no image"),
            (
                &[("x", "jpg", b"i")],
                "it has neither a .txt nor a caption in its .json",
            ),
            (
                &[("x", "jpg", b"i"), ("x", "txt", b" \n")],
                "its caption is empty",
            ),
            (
                &[("x", "jpg", b"i"), ("x", "txt", b"\xff\xfe")],
                "its .txt is not UTF-8",
            ),
            (
                &[("x", "jpg", b"i"), ("x", "png", b"i"), ("x", "txt", b"w")],
                "it has several images",
            ),
            (
                &[("x", "jpg", b"i"), ("x", "txt", &long)],
                "its .txt has 1048577 bytes; at most 1048576 are read",
            ),
        ];
        for (members, reason) in cases {
            assert_eq!(reasons(&write(members)), [reason]);
        }
    }

    #[test]
    fn the_samples_before_a_truncation_are_used() {
        let bytes = write(&[
            ("x", "jpg", &[1; 900]),
            ("x", "txt", b"w"),
            ("y", "jpg", &[2; 3000]),
            ("y", "txt", b"w"),
        ]);
        let found = read_all(&bytes[..512 + 1024 + 512 + 512 + 512 + 904]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_ref().unwrap().key, "x");
        let reason = &found[1].as_ref().unwrap_err().reason;
        assert_eq!(
            reason,
            "the shard is corrupt or ends early: nothing after byte 2049 is used"
        );
    }

    const SAMPLES: [Member<'static>; 6] = [
        ("a", "jpg", b"one"),
        ("a", "txt", b"a ring"),
        ("b", "jpg", b"two"),
        ("b", "txt", b"a cross"),
        ("c", "jpg", b"three"),
        ("c", "txt", b"a star"),
    ];

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000),
        ) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn a_cut_shard_gives_its_first_samples(share in 0.0..1.0) {
            let whole = write(&SAMPLES);
            // The two empty blocks at the end may be missing.
            let len = (share * (whole.len() - 1024) as f64) as usize;
            let found = read_all(&whole[..len]);
            let keys: Vec<&str> = found.iter().flatten().map(|sample| &*sample.key).collect();
            proptest::prop_assert!(["a", "b", "c"].starts_with(&keys));
        }

        #[test]
        fn a_flipped_bit_never_gives_a_sample_another_name(
            position in 0..write(&SAMPLES).len(),
            bit in 0..8_u32,
        ) {
            let mut bytes = write(&SAMPLES);
            bytes[position] ^= 1_u8 << bit;
            for sample in read_all(&bytes).iter().flatten() {
                proptest::prop_assert!(["a", "b", "c"].contains(&&*sample.key));
            }
        }
    }
}
