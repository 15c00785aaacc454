//! Webdataset shards: tar files whose members belong together by name (webdataset 1.0
//! `tariterators.py`).
//!
//! A member's key is its name up to the first dot of its last part, the rest is its suffix. Members
//! of one key stand next to each other. Nothing is unpacked: images are named by where their bytes
//! lie. Faults are data: a sample that cannot be used is listed with its reason, and a shard that
//! ends early keeps what came before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// Longest text or JSON member read.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Largest image member taken.
const IMAGE_BYTES_MAX: u64 = 64 << 20;
/// Suffixes of images.
const IMAGE_SUFFIXES: [&str; 7] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff"];

/// A sample as it stands in a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawSample {
    /// Its key.
    pub key: String,
    /// Where the image's bytes begin in the shard.
    pub offset: u64,
    /// The image's bytes.
    pub image: Vec<u8>,
    /// Its caption.
    pub text: String,
    /// The `.json` member, if it has one.
    pub json: Option<serde_json::Value>,
}

/// A sample that cannot be used, or the rest of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The sample's key; empty for the shard as a whole.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// The members of one key so far.
#[derive(Default)]
struct Group {
    key: String,
    members: BTreeMap<String, (u64, Vec<u8>)>,
    fault: Option<String>,
}

/// Reads a shard from its beginning to its end; `take` is given each sample or fault in order.
///
/// # Errors
/// Opening the file, and what `take` gives.
pub fn read<E>(
    path: &Path,
    mut take: impl FnMut(Result<RawSample, Fault>) -> Result<(), E>,
) -> Result<Result<(), E>, io::Error> {
    let file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut archive = tar::Archive::new(file);
    let mut group = Group::default();
    let mut fault = None;
    // Where the last good member ends. What the tar reader says of a bad one may quote the file: it
    // is not passed on.
    let mut good = 0;
    let damaged = |good: u64| match good {
        0 => "it is no tar file, or is damaged from its beginning".to_owned(),
        _ => format!("the shard is damaged or ends early: nothing after byte {good} is used"),
    };
    for entry in archive.entries()? {
        let Ok(entry) = entry else {
            fault = Some(damaged(good));
            break;
        };
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() || name.contains("__meta__") {
            continue;
        }
        let (key, suffix) = split(&name);
        if key != group.key {
            if let Err(error) = close(std::mem::take(&mut group), &mut take) {
                return Ok(Err(error));
            }
            key.clone_into(&mut group.key);
        }
        let (offset, end) = (
            entry.raw_file_position(),
            entry.raw_file_position().saturating_add(entry.size()),
        );
        let Ok(bytes) = member(entry, &suffix) else {
            fault = Some(damaged(good));
            break;
        };
        group.add(suffix, offset, bytes);
        good = end;
    }
    // The last sample of a damaged shard may lack members: it is not used.
    if fault.is_none()
        && let Err(error) = close(group, &mut take)
    {
        return Ok(Err(error));
    }
    Ok(match fault {
        Some(reason) => take(Err(Fault {
            key: String::new(),
            reason,
        })),
        None => Ok(()),
    })
}

/// The bytes of a member; none for one of a suffix that is not used, a reason for one that is too
/// large.
fn member<R: Read>(
    mut entry: tar::Entry<'_, R>,
    suffix: &str,
) -> io::Result<Result<Vec<u8>, String>> {
    let image = IMAGE_SUFFIXES.contains(&suffix);
    if !image && suffix != "txt" && suffix != "json" {
        return Ok(Ok(Vec::new()));
    }
    let (size, limit) = (
        entry.size(),
        if image {
            IMAGE_BYTES_MAX
        } else {
            TEXT_BYTES_MAX
        },
    );
    if size > limit {
        return Ok(Err(format!(
            "its .{suffix} has {size} bytes; at most {limit} are read"
        )));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "a member is cut short",
        ));
    }
    Ok(Ok(bytes))
}

/// Key and lower-case suffix of a member's name, cut at the first dot of the last part.
fn split(name: &str) -> (&str, String) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name
        .get(base..)
        .and_then(|part| part.find('.'))
        .map_or(name.len(), |dot| base + dot);
    let suffix = name.get(dot + 1..).unwrap_or("").to_lowercase();
    (name.get(..dot).unwrap_or(name), suffix)
}

impl Group {
    fn add(&mut self, suffix: String, offset: u64, bytes: Result<Vec<u8>, String>) {
        match bytes {
            Err(reason) => self.fault = Some(reason),
            Ok(_) if self.members.contains_key(&suffix) => {
                self.fault = Some(format!("it has two .{suffix} members"))
            }
            Ok(bytes) => {
                self.members.insert(suffix, (offset, bytes));
            }
        }
    }
}

fn close<E>(
    group: Group,
    take: &mut impl FnMut(Result<RawSample, Fault>) -> Result<(), E>,
) -> Result<(), E> {
    if group.members.is_empty() && group.fault.is_none() {
        return Ok(());
    }
    let key = group.key.clone();
    take(sample(group).map_err(|reason| Fault { key, reason }))
}

fn sample(mut group: Group) -> Result<RawSample, String> {
    if let Some(reason) = group.fault {
        return Err(reason);
    }
    let mut images = IMAGE_SUFFIXES
        .iter()
        .filter_map(|suffix| group.members.remove(*suffix));
    let Some((offset, image)) = images.next() else {
        return Err("it has no image".to_owned());
    };
    if images.next().is_some() {
        return Err("it has several images".to_owned());
    }
    let json = match group.members.get("json") {
        Some((_, bytes)) => Some(
            serde_json::from_slice(bytes)
                .map_err(|error| format!("its .json is no JSON: {error}"))?,
        ),
        None => None,
    };
    let text = match group.members.get("txt") {
        Some((_, bytes)) => {
            String::from_utf8(bytes.clone()).map_err(|_| "its .txt is not UTF-8".to_owned())?
        }
        None => caption(json.as_ref()).ok_or("it has neither a .txt nor a caption in its .json")?,
    };
    if text.trim().is_empty() {
        return Err("its caption is empty".to_owned());
    }
    Ok(RawSample {
        key: group.key,
        offset,
        image,
        text: text.trim().to_owned(),
        json,
    })
}

fn caption(json: Option<&serde_json::Value>) -> Option<String> {
    Some(json?.get("caption")?.as_str()?.to_owned())
}

/// Writes shards: the same samples give the same bytes.
pub struct ShardWriter<W: Write> {
    tar: tar::Builder<Counting<W>>,
}

/// Counts what passes through.
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
    /// A shard that goes to `target`.
    pub fn new(target: W) -> Self {
        Self {
            tar: tar::Builder::new(Counting { target, bytes: 0 }),
        }
    }

    /// Adds a member and says where its bytes begin; the members of a key have to follow each
    /// other.
    ///
    /// # Errors
    /// What writing gives.
    pub fn add(&mut self, key: &str, suffix: &str, bytes: &[u8]) -> io::Result<u64> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.tar
            .append_data(&mut header, format!("{key}.{suffix}"), bytes)?;
        Ok(self.bytes() - (bytes.len() as u64).next_multiple_of(512))
    }

    /// How many bytes were written so far.
    pub fn bytes(&self) -> u64 {
        self.tar.get_ref().bytes
    }

    /// Ends the shard.
    ///
    /// # Errors
    /// What writing gives.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.tar.into_inner()?.target)
    }
}

/// A key as a file name: no folders, no dots (a dot would end the key), nothing that is not a plain
/// character.
pub fn safe_key(key: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '_'
        }
    };
    let safe: String = key.chars().map(plain).take(80).collect();
    if safe.is_empty() {
        "_".to_owned()
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
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

    fn read_all(bytes: &[u8]) -> Vec<Result<RawSample, Fault>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut found = Vec::new();
        read(file.path(), |sample| {
            found.push(sample);
            Ok::<(), ()>(())
        })
        .unwrap()
        .unwrap();
        found
    }

    fn reasons(bytes: &[u8]) -> Vec<String> {
        read_all(bytes)
            .into_iter()
            .filter_map(|sample| Some(sample.err()?.reason))
            .collect()
    }

    #[test]
    fn samples_come_back_and_their_bytes_can_be_found_again() {
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
    fn the_writer_knows_where_bytes_begin() {
        let mut writer = ShardWriter::new(Vec::new());
        let long = "k".repeat(150);
        let places: Vec<u64> = [("a", "one"), (long.as_str(), "two"), ("b", "three")]
            .map(|(key, text)| writer.add(key, "jpg", text.as_bytes()).unwrap())
            .to_vec();
        let bytes = writer.finish().unwrap();
        for (place, text) in places.into_iter().zip(["one", "two", "three"]) {
            assert_eq!(
                &bytes[place as usize..place as usize + text.len()],
                text.as_bytes()
            );
        }
    }

    #[test]
    fn faults_have_reasons() {
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
    fn a_shard_that_ends_early_keeps_what_came_before() {
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
            "the shard is damaged or ends early: nothing after byte 2049 is used"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000)) {
            let _ = read_all(&bytes);
        }
    }
}
