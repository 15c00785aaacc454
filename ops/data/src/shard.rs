//! Webdataset shards: tar files whose members form samples by their names (webdataset 1.0
//! `tariterators.py`).
//!
//! A member's key is its name up to the first dot of its last part, the rest is its suffix. Nothing
//! is unpacked: images are addressed by their offset in the shard. Members of a key that are not
//! adjacent, as in a folder that was packed by `tar cf`, are joined within bounds
//! (`samples.rs`). A sample that cannot be used is rejected with a reason. A shard that
//! ends early or is corrupt is rejected as a shard, beside the samples before that place.

mod archive;
mod foreign;
mod group;
mod members;
mod names;
mod samples;
mod writer;

use std::io::{self, Read};

use self::archive::{Archive, ArchiveError, Entry, Fault, Kind, Member};
use self::members::MemberKind;
pub use self::members::Members;
use self::names::MemberName;
pub use self::names::{is_about_data, is_clutter};
use self::samples::Samples;
pub use self::writer::ShardWriter;

/// The largest accepted text or JSON member.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// The largest accepted encoded image.
pub const IMAGE_BYTES_MAX: u64 = 64 << 20;
const IMAGE_SUFFIXES: [&str; 9] = [
    "jpg", "jpeg", "jfif", "png", "webp", "gif", "bmp", "tiff", "tif",
];

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

/// A sample that cannot be used, or a fault of the shard. Reasons are stored with a stage's result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectedSample {
    /// Empty for a fault of the shard.
    pub key: String,
    pub reason: String,
    /// Whether samples of this key that were passed on before are not to be used either: a member
    /// of theirs came later, apart from them.
    pub retracts: bool,
}

/// What a reader of a shard should know besides its samples.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardNotes {
    /// Members that are no part of a sample, such as `.DS_Store` and `README.md`.
    pub skipped: u64,
    /// The first of them.
    pub skipped_first: Option<String>,
    /// Archives that follow the first one in the same file.
    pub further_archives: u64,
    /// Samples with a `.txt` whose `.json` cannot be read.
    pub unreadable_json: u64,
    /// Samples with the key of an earlier one.
    pub repeated_keys: u64,
}

/// Reads a shard of the usual members from beginning to end, passing each sample to `take`.
///
/// # Errors
/// The outer one is that of reading; the inner one is that of `take`, which ends the reading.
pub fn read<E>(
    shard: impl Read,
    take: impl FnMut(Result<RawSample, RejectedSample>) -> Result<(), E>,
) -> Result<Result<ShardNotes, E>, io::Error> {
    read_members(shard, &Members::default(), take)
}

/// Reads a shard whose images and captions are these members.
///
/// # Errors
/// As [`read`].
pub fn read_members<E>(
    shard: impl Read,
    members: &Members,
    mut take: impl FnMut(Result<RawSample, RejectedSample>) -> Result<(), E>,
) -> Result<Result<ShardNotes, E>, io::Error> {
    let mut archive = Archive::new(shard);
    let mut samples = Samples::new(members.clone());
    loop {
        let is_done = match read_entry(&mut archive, &mut samples) {
            Ok(is_done) => is_done,
            Err(ArchiveError::Fault(fault)) => {
                samples.end_by_fault(&fault);
                true
            }
            Err(ArchiveError::Io(error)) => return Err(error),
        };
        for sample in samples.take_ready() {
            if let Err(error) = take(sample) {
                return Ok(Err(error));
            }
        }
        if is_done {
            return Ok(Ok(samples.notes));
        }
    }
}

/// Reads the next member. Returns whether it was the last one.
fn read_entry<R: Read>(
    archive: &mut Archive<R>,
    samples: &mut Samples,
) -> Result<bool, ArchiveError> {
    match archive.next()? {
        Entry::Member(member) => add_member(archive, samples, member)?,
        Entry::NextArchive => samples.next_archive(),
        Entry::Hole(from, to) => samples.hole(from, to),
        Entry::End => {
            samples.end();
            return Ok(true);
        }
    }
    Ok(false)
}

fn add_member<R: Read>(
    archive: &mut Archive<R>,
    samples: &mut Samples,
    member: Member,
) -> Result<(), ArchiveError> {
    if matches!(member.kind, Kind::Folder | Kind::Metadata) {
        return Ok(());
    }
    let MemberName::Sample(key, suffix) = names::read(&member.name) else {
        samples.skip(member.name);
        return Ok(());
    };
    let limit = match samples.members().kind(&suffix) {
        MemberKind::Text => TEXT_BYTES_MAX,
        MemberKind::Image => IMAGE_BYTES_MAX,
        MemberKind::Unused => 0,
    };
    let (offset, size) = (member.offset, member.size);
    samples.begin_member(&key);
    let bytes = match member.kind {
        _ if limit == 0 => Ok(Vec::new()),
        Kind::Unreadable(what) => Err(format!(
            "its .{suffix} is {what} at byte {offset}, not a file"
        )),
        _ if size > limit => Err(format!(
            "its .{suffix} has {size} bytes; at most {limit} are read"
        )),
        _ => Ok(archive.read_member()?),
    };
    samples.add(suffix, offset, bytes);
    Ok(())
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
            ["it has no image, only .1.jpg, .1.txt"],
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
            (&[("x", "txt", b"words")], "it has no image, only .txt"),
            (
                &[("x", "jpg", b"i")],
                "it has neither a .txt nor a `caption` in a .json, only .jpg",
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
                "it has several images: .jpg, .png, .txt",
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
            "it ends early, at byte 3976, inside `y.jpg` (3000 bytes from byte 3072): the 1 samples \
             before it are used"
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
