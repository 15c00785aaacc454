//! Shards as they are found: cut, concatenated, packed by `tar cf`, with members that are no
//! samples. No sample is lost, paired wrongly or dropped without a word.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use blip_data::shard::{self, RawSample, RejectedSample, ShardNotes};

#[derive(Default)]
struct Found {
    /// As in `key=text`.
    samples: Vec<String>,
    /// As in `key: reason`; of a fault of the shard only the reason.
    rejected: Vec<String>,
    notes: ShardNotes,
}

fn read(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let notes = shard::read(bytes, |sample| {
        match sample {
            Ok(RawSample {
                key,
                text,
                offset,
                image,
                ..
            }) => {
                let start = offset as usize;
                assert_eq!(
                    &bytes[start..start + image.len()],
                    image,
                    "the bytes of {key}"
                );
                found.samples.push(format!("{key}={text}"));
            }
            Err(RejectedSample { key, reason, .. }) if key.is_empty() => {
                found.rejected.push(reason);
            }
            Err(RejectedSample {
                key,
                reason,
                retracts,
            }) => {
                let retracts = if retracts { " (retracts)" } else { "" };
                found.rejected.push(format!("{key}: {reason}{retracts}"));
            }
        }
        Ok::<(), ()>(())
    });
    found.notes = notes.unwrap().unwrap();
    found
}

/// A header and its padded bytes.
fn member(name: &[u8], kind: u8, link: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    if !link.is_empty() {
        header.set_link_name(link).unwrap();
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
    member(name.as_bytes(), b'0', "", bytes)
}

/// Members without an end of the archive.
fn members(files: &[(&str, &[u8])]) -> Vec<u8> {
    files
        .iter()
        .flat_map(|(name, bytes)| file(name, bytes))
        .collect()
}

const END: [u8; 1024] = [0; 1024];
const A: [(&str, &[u8]); 2] = [("a.jpg", b"one"), ("a.txt", b"a ring")];
const B: [(&str, &[u8]); 2] = [("b.jpg", b"two"), ("b.txt", b"a cross")];
const C: [(&str, &[u8]); 2] = [("c.jpg", b"three"), ("c.txt", b"a star")];

#[test]
fn a_shard_that_ends_early_is_named_with_its_position() {
    let whole = [members(&A), members(&B), members(&C), END.to_vec()].concat();
    assert_eq!(read(&whole).rejected, [""; 0]);
    // A sample is two headers and two blocks: 2048 bytes.
    for (cut, samples, reason) in [
        (
            2048 + 100,
            1,
            "it ends early, at byte 2148, inside the header at byte 2048: the 0 samples before it \
             are used, 1 incomplete ones are not",
        ),
        (
            2048 + 514,
            1,
            "it ends early, at byte 2562, inside `b.jpg` (3 bytes from byte 2560): the 1 samples \
             before it are used",
        ),
        (
            3072 + 514,
            1,
            "it ends early, at byte 3586, inside `b.txt` (7 bytes from byte 3584): the 1 samples \
             before it are used, 1 incomplete ones are not",
        ),
        (
            4096,
            2,
            "it ends at byte 4096 without an end-of-archive block, so it may have been cut there: \
             the 2 samples before it are used",
        ),
        (
            3072,
            1,
            "it ends at byte 3072 without an end-of-archive block, so it may have been cut there: \
             the 1 samples before it are used, 1 incomplete ones are not",
        ),
    ] {
        let found = read(&whole[..cut]);
        assert_eq!(found.rejected, [reason]);
        let samples = if cut == 2148 { 0 } else { samples };
        assert_eq!(found.samples.len(), samples, "{cut}");
    }
    // One block of zeros is an end for tar and Python, too.
    assert_eq!(read(&whole[..6144 + 512]).rejected, [""; 0]);
}

#[test]
fn no_cut_gives_a_shard_with_fewer_samples_without_a_word() {
    let whole = [members(&A), members(&B), members(&C), END.to_vec()].concat();
    for cut in 0..6144 {
        let found = read(&whole[..cut]);
        assert_eq!(found.rejected.len(), 1, "{cut}");
        let all = ["a=a ring", "b=a cross", "c=a star"];
        assert!(all.starts_with(&found.samples.iter().map(|s| &**s).collect::<Vec<_>>()));
    }
}

#[test]
fn files_that_are_no_tar_files_are_named_as_what_they_are() {
    let of_start = |start: &[u8]| {
        let found = read(&[start, &[b'x'; 700]].concat());
        assert_eq!(found.samples, [""; 0]);
        found.rejected.concat()
    };
    assert_eq!(read(b"").rejected, ["it is empty (0 bytes)"]);
    assert_eq!(
        read(&[0; 10240]).rejected,
        [""; 0],
        "an archive without members"
    );
    assert_eq!(
        read(&vec![0; 20480]).rejected,
        ["it has no members: all its 20480 bytes are zeros"]
    );
    let compressed = |by: &str, with: &str| {
        format!(
            "it is compressed with {by}: decompress it (`{with}`), images are read from inside \
             the tar"
        )
    };
    assert_eq!(of_start(b"\x1f\x8b\x08"), compressed("gzip", "gunzip"));
    assert_eq!(of_start(b"\x28\xb5\x2f\xfd"), compressed("zstd", "unzstd"));
    assert_eq!(of_start(b"\xfd7zXZ\0"), compressed("xz", "unxz"));
    assert_eq!(of_start(b"BZh9"), compressed("bzip2", "bunzip2"));
    assert_eq!(
        read(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n").rejected,
        ["it is a Git LFS pointer: fetch the file itself (`git lfs pull`)"]
    );
    assert_eq!(
        of_start(b"\xff\xd8\xff\xe0"),
        "it is an image: pack each folder of images and texts as a shard (`tar --sort=name -cf`)"
    );
    assert_eq!(
        of_start(b"<!DOCTYPE html>"),
        "it is an HTML page, as a failed download leaves it"
    );
    assert_eq!(
        of_start(b"some words"),
        "it is no tar file, or is corrupt from its first byte"
    );
}

#[test]
fn archives_in_one_file_are_all_read_and_holes_are_named() {
    let one = [members(&A), END.to_vec()].concat();
    let two = [members(&A), members(&B), END.to_vec()].concat();
    let found = read(&[one.clone(), two.clone()].concat());
    assert_eq!(found.samples, ["a=a ring", "a=a ring", "b=a cross"]);
    assert_eq!((found.rejected.len(), found.notes.further_archives), (0, 1));
    // As tar and Python pad archives.
    let mut padded = members(&A);
    padded.resize(10240, 0);
    let found = read(&[padded, two].concat());
    assert_eq!(found.samples, ["a=a ring", "a=a ring", "b=a cross"]);
    assert_eq!((found.rejected.len(), found.notes.further_archives), (0, 1));
    for blocks in [1, 3, 7] {
        let hole = vec![0; blocks * 512];
        let found = read(&[members(&A), hole, members(&B), END.to_vec()].concat());
        assert_eq!(found.samples, ["a=a ring", "b=a cross"]);
        let to = 2048 + blocks * 512;
        assert_eq!(
            found.rejected,
            [format!(
                "bytes 2048 to {to} are zeros between members: members may be missing there"
            )]
        );
    }
    // Bytes after the end that are no archive.
    let found = read(&[one, vec![7; 600]].concat());
    assert_eq!(found.samples, ["a=a ring"]);
    assert_eq!(
        found.rejected,
        ["what follows its end at byte 3072 is no tar file: the 1 samples before it are used"]
    );
}

#[test]
fn members_without_bytes_of_their_own_are_named() {
    let txt = |key: &str| file(&format!("{key}.txt"), b"a ring");
    let shard = [
        members(&A),
        member(b"folder/", b'5', "", b""),
        member(b"pax", b'g', "", b"21 comment=some words\n"),
        member(b"h.jpg", b'1', "a.jpg", b""),
        txt("h"),
        member(b"s.jpg", b'2', "../a.jpg", b""),
        txt("s"),
        member(b"d.jpg", b'3', "", b""),
        txt("d"),
        member(b"f.jpg", b'6', "", b""),
        txt("f"),
        member(b"u.jpg", b'Z', "", b"12345"),
        txt("u"),
        members(&B),
        END.to_vec(),
    ];
    let found = read(&shard.concat());
    assert_eq!(found.samples, ["a=a ring", "b=a cross"]);
    assert_eq!(
        found.rejected,
        [
            "h: its .jpg is a hard link to `a.jpg` at byte 4096, not a file",
            "s: its .jpg is a symbolic link to `../a.jpg` at byte 5632, not a file",
            "d: its .jpg is a device at byte 7168, not a file",
            "f: its .jpg is a FIFO at byte 8704, not a file",
            "u: its .jpg is of the unknown type `Z` at byte 10240, not a file",
        ]
    );
}

#[test]
fn long_names_and_sizes_in_extension_headers_are_read() {
    let long = format!("{}/key", "folder".repeat(30));
    let gnu = |name: &str| member(b"././@LongLink", b'L', "", format!("{name}\0").as_bytes());
    let pax = |name: &str| {
        let record = format!(" path={name}\n");
        let len = record.len() + 3;
        member(b"pax", b'x', "", format!("{len}{record}").as_bytes())
    };
    let shard = [
        gnu(&format!("{long}.jpg")),
        file("cut.jpg", b"one"),
        pax(&format!("{long}.txt")),
        file("cut.txt", b"a ring"),
        END.to_vec(),
    ];
    let found = read(&shard.concat());
    assert_eq!(found.rejected, [""; 0]);
    assert_eq!(found.samples, [format!("{long}=a ring")]);
}

#[test]
fn files_of_systems_and_tools_are_no_samples() {
    let shard = [
        file("README.md", b"about"),
        file(".DS_Store", b"x"),
        file("._a.jpg", b"x"),
        file("__MACOSX/._a.txt", b"x"),
        file("a.jpg", b"one"),
        file("Thumbs.db", b"x"),
        file("desktop.ini", b"x"),
        file("a.txt", b"a ring"),
        file("LICENSE.txt", b"terms"),
        file("LICENSE", b"terms"),
        file("readme.jpg", b"image"),
        file("readme.txt", b"a book"),
        END.to_vec(),
    ];
    let found = read(&shard.concat());
    assert_eq!(found.samples, ["a=a ring", "readme=a book"]);
    assert_eq!(found.rejected, [""; 0]);
    assert_eq!(found.notes.skipped, 8);
}

#[test]
fn members_that_are_not_adjacent_are_joined_or_named() {
    let shard = [members(&[A[0], B[1], C[0], A[1], B[0], C[1]]), END.to_vec()];
    let found = read(&shard.concat());
    assert_eq!(found.samples, ["a=a ring", "b=a cross", "c=a star"]);
    assert_eq!(found.rejected, [""; 0]);
    // What was passed on before its last member came is not used.
    let late = [
        members(&A),
        members(&B),
        file("a.json", b"{}"),
        END.to_vec(),
    ];
    assert_eq!(
        read(&late.concat()).rejected,
        [
            "a: its .json is not beside its other members: pack them sorted by name \
          (`tar --sort=name`) (retracts)"
        ]
    );
    let again = [members(&A), members(&B), members(&A), END.to_vec()];
    let found = read(&again.concat());
    assert_eq!((found.samples.len(), found.notes.repeated_keys), (3, 1));
}

#[test]
fn names_of_members_do_not_merge_samples() {
    let latin = |byte: u8, suffix: &str, bytes: &[u8]| {
        member(
            &[b"caf", [byte].as_slice(), suffix.as_bytes()].concat(),
            b'0',
            "",
            bytes,
        )
    };
    let shard = [
        latin(0xe9, ".jpg", b"one"),
        latin(0xe8, ".txt", b"another"),
        latin(0xe9, ".txt", b"a ring"),
        file("./b.JPG", b"two"),
        file("b.txt", b"a cross"),
        file("t.tif", b"three"),
        file("t.txt", b"\xef\xbb\xbf a star\r\n"),
        file("bom.png", b"i"),
        file("bom.txt", b"\xef\xbb\xbf"),
        file("two.input.jpg", b"i"),
        file("two.txt", b"words"),
        file("cls.jpg", b"i"),
        file("cls.cls", b"3"),
        END.to_vec(),
    ];
    let found = read(&shard.concat());
    assert_eq!(found.samples, ["caf\\xe9=a ring", "b=a cross", "t=a star"]);
    assert_eq!(
        found.rejected,
        [
            "bom: its caption is empty",
            "caf\\xe8: it has no image, only .txt",
            "two: it has no image, only .input.jpg, .txt",
            "cls: it has neither a .txt nor a `caption` in a .json, only .cls, .jpg",
        ]
    );
}

#[test]
fn json_that_cannot_be_read_costs_no_sample_that_has_a_text() {
    let sample = |key: &str, json: &[u8], txt: Option<&[u8]>| {
        let mut shard = file(&format!("{key}.jpg"), b"image");
        shard.extend(file(&format!("{key}.json"), json));
        if let Some(txt) = txt {
            shard.extend(file(&format!("{key}.txt"), txt));
        }
        shard
    };
    let shard = [
        sample("nan", br#"{"caption": "a ring", "similarity": NaN}"#, None),
        sample("half", br#"{"caption": "\ud83d"}"#, Some(b"a cross")),
        sample("half2", br#"{"caption": "\ud83d"}"#, None),
        sample(
            "own",
            br#"{"format": "blip/pair/1", "caption": "\ud83d"}"#,
            Some(b"t"),
        ),
        sample("null", br#"{"caption": null}"#, None),
        sample("list", br#"{"caption": ["a"]}"#, None),
        sample("twice", br#"{"caption": "a", "caption": "b"}"#, None),
        sample("bom", b"\xef\xbb\xbf{\"caption\": \"a star\"}", None),
        END.to_vec(),
    ];
    let found = read(&shard.concat());
    assert_eq!(found.samples, ["nan=a ring", "half=a cross", "bom=a star"]);
    assert_eq!(found.notes.unreadable_json, 1);
    assert_eq!(
        found.rejected,
        [
            "half2: its .json has half of a surrogate pair (`\\ud83d` alone)",
            "own: its .json has half of a surrogate pair (`\\ud83d` alone)",
            "null: the `caption` in its .json is null",
            "list: the `caption` in its .json is no string",
            "twice: its .json has several `caption`",
        ]
    );
}
