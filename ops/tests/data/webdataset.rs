//! `read.webdataset`.

use blip_engine::Status;
use blip_engine::dataset::Chunk;

use crate::world::{World, end, list, scenes};

const READ: &str = "web = read.webdataset(\"*.tar\")\n";

#[test]
fn samples_do_not_depend_on_their_shards() {
    let world = World::new();
    let samples = scenes("web", 30);
    world.shard_of("a.tar", &samples[..10]);
    world.shard_of("b.tar", &samples[10..]);
    let summary = world.done(READ);
    assert_eq!(end(&summary, "web").count, Some(30));
    let mut texts: Vec<String> = samples.iter().map(|sample| sample.text.clone()).collect();
    texts.sort();
    assert_eq!(world.texts(&summary, "web"), texts);

    // Repacked: the reading stage runs again and gives the same dataset.
    let other = World::new();
    let reversed: Vec<_> = samples.iter().rev().cloned().collect();
    other.shard_of("x.tar", &reversed[..23]);
    other.shard_of("y.tar", &reversed[23..]);
    assert_eq!(
        other.done(READ).results["web"].output,
        summary.results["web"].output
    );
}

#[test]
fn only_a_changed_shard_is_read_again() {
    let world = World::new();
    let samples = scenes("web", 30);
    world.shard_of("a.tar", &samples[..10]);
    world.shard_of("b.tar", &samples[10..20]);
    world.done(READ);
    world.shard_of("b.tar", &samples[10..]);
    std::fs::rename(world.path("a.tar"), world.path("c.tar")).unwrap();
    assert_eq!(units(&world), 2);
    let summary = world.done(READ);
    assert_eq!(end(&summary, "web").count, Some(30));
    assert_eq!(end(&summary, "web").status, Status::Ran);
    assert_eq!(units(&world), 3, "one shard more was read");
}

/// How many units of work are cached.
fn units(world: &World) -> usize {
    let folders = std::fs::read_dir(world.config.cache.join("units")).unwrap();
    let groups = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    groups
        .map(|group| {
            Chunk::decode(&std::fs::read(group.unwrap().path()).unwrap())
                .unwrap()
                .items
                .len()
        })
        .sum()
}

#[test]
fn an_image_of_two_samples_has_two_texts() {
    let world = World::new();
    let samples = scenes("web", 2);
    world.shard(
        "a.tar",
        &[
            ("x", "jpg", samples[0].jpeg.as_slice()),
            ("x", "txt", b"one"),
            ("y", "jpg", &samples[0].jpeg),
            ("y", "txt", b"two"),
            ("z", "jpg", &samples[1].jpeg),
            (
                "z",
                "json",
                b"{\"caption\": \"three\", \"url\": \"http://example.org/z.jpg\", \
                            \"status\": \"success\"}",
            ),
        ],
    );
    std::fs::copy(world.path("a.tar"), world.path("b.tar")).unwrap();
    let summary = world.done(READ);
    assert_eq!(world.texts(&summary, "web"), ["one", "three", "two"]);
    assert_eq!(end(&summary, "web").count, Some(2));
    assert_eq!(
        *end(&summary, "web").notes,
        [
            "1 duplicate shards were read once",
            "1 samples have the image of another sample: their texts were merged"
        ]
    );
}

#[test]
fn bad_samples_are_rejected_with_their_reasons() {
    let world = World::new();
    let samples = scenes("web", 8);
    let jpeg = |at: usize| samples[at].jpeg.as_slice();
    let long = "word ".repeat(10_000);
    world.shard(
        "a.tar",
        &[
            ("good", "jpg", jpeg(0)),
            ("good", "txt", b"a ring"),
            ("cut", "jpg", &jpeg(1)[..200]),
            ("cut", "txt", b"a ring"),
            ("corrupt", "jpg", &corrupt_jpeg(jpeg(5))),
            ("corrupt", "txt", b"a ring"),
            ("huge", "png", &huge_png()),
            ("huge", "txt", b"a ring"),
            ("empty", "jpg", jpeg(2)),
            ("empty", "txt", b" \n"),
            ("latin", "jpg", jpeg(3)),
            ("latin", "txt", b"caf\xe9"),
            ("long", "jpg", jpeg(4)),
            ("long", "txt", long.as_bytes()),
            ("text", "jpg", b"<html>not found</html>"),
            ("text", "txt", b"a ring"),
            ("void", "jpg", b""),
            ("void", "txt", b"a ring"),
        ],
    );
    let summary = world.done("web = read.webdataset(\"*.tar\", max_bad = 0.8)\n");
    let mut bad = world.rejected(&summary, "web");
    bad.sort_unstable();
    assert_eq!(
        bad,
        list([
            (
                "a.tar: corrupt",
                "its image is corrupt: Error decoding huffman values: Invalid DHT index 14, \
                 expected between 0 and 3"
            ),
            (
                "a.tar: cut",
                "its image is truncated: the file ends before the picture does"
            ),
            ("a.tar: empty", "its caption is empty"),
            (
                "a.tar: huge",
                "its image is too large: 20000 x 20000 pixels; at most 16384 a side and 67108864 \
                 in all"
            ),
            ("a.tar: latin", "its .txt is not UTF-8"),
            (
                "a.tar: text",
                "its image is unsupported: neither JPEG, PNG, WebP, GIF, BMP nor TIFF"
            ),
            ("a.tar: void", "its image is empty: the image has no bytes"),
        ])
    );
    // A caption of 10,000 words is kept: it is truncated when it is tokenized, as in BLIP.
    assert_eq!(world.texts(&summary, "web"), ["a ring", long.trim()]);
}

/// Overwrites the Huffman tables of an image.
fn corrupt_jpeg(jpeg: &[u8]) -> Vec<u8> {
    let mut bytes = jpeg.to_vec();
    let table = bytes
        .windows(2)
        .position(|pair| pair == [0xff, 0xc4])
        .unwrap();
    bytes[table + 4..table + 24].fill(0xee);
    bytes
}

/// A PNG whose header declares 20,000 x 20,000 pixels, with next to no data.
pub(crate) fn huge_png() -> Vec<u8> {
    let header = [
        b"IHDR".as_slice(),
        &20_000_u32.to_be_bytes(),
        &20_000_u32.to_be_bytes(),
        &[8, 0, 0, 0, 0],
    ]
    .concat();
    let data = [b"IDAT".as_slice(), &[0x78, 0x9c, 0x63, 0, 0, 0, 1, 0, 1]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for chunk in [header, data, b"IEND".to_vec()] {
        png.extend((chunk.len() as u32 - 4).to_be_bytes());
        png.extend(&chunk);
        png.extend(crc(&chunk).to_be_bytes());
    }
    png
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            0xedb8_8320 ^ (crc >> 1)
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn too_many_bad_samples_fail_the_stage() {
    let world = World::new();
    let samples = scenes("web", 4);
    world.shard(
        "a.tar",
        &[
            ("1", "jpg", samples[0].jpeg.as_slice()),
            ("1", "txt", b"a ring"),
            ("2", "jpg", &samples[1].jpeg),
            ("3", "jpg", &samples[2].jpeg),
            ("4", "txt", b"a ring"),
            ("5", "jpg", b""),
            ("5", "txt", b"a ring"),
        ],
    );
    assert_eq!(
        world.failure(READ, "web"),
        (
            "4 of 5 samples cannot be used, more than max_bad = 0.01 allows: a.tar: 5: its image \
             is empty: the image has no bytes; a.tar: 2: it has neither a .txt nor a `caption` in \
             a .json, only .jpg; a.tar: 3: it has neither a .txt nor a `caption` in a .json, only \
             .jpg; …"
                .to_owned(),
            "fix or remove them, or raise max_bad: what was read already is cached".to_owned()
        )
    );
    let summary = world.done("web = read.webdataset(\"*.tar\", max_bad = 0.8)\n");
    assert_eq!(end(&summary, "web").rejected, 4);
    // A result that another budget allowed is none for this one.
    assert!(world.failure(READ, "web").0.starts_with("4 of 5 samples"));
}

#[test]
fn a_truncated_shard_keeps_the_samples_before_the_cut() {
    let world = World::new();
    let samples = scenes("web", 6);
    world.shard_of("a.tar", &samples[..3]);
    world.shard_of("b.tar", &samples[3..]);
    // Members begin at multiples of 512. The first sample has two; the cut is in the image of the
    // second sample.
    let good = 512 + samples[3].jpeg.len().next_multiple_of(512) + 512 + samples[3].text.len();
    let good = good.next_multiple_of(512);
    let bytes = std::fs::read(world.path("b.tar")).unwrap();
    world.write("b.tar", &bytes[..good + 512 + 100]);
    let reason = format!(
        "it ends early, at byte {}, inside `web-000004.jpg` ({} bytes from byte {}): the 1 samples \
         before it are used",
        good + 612,
        samples[4].jpeg.len(),
        good + 512
    );
    let (what, help) = world.failure(READ, "web");
    assert_eq!(
        what,
        format!(
            "1 of 2 shards cannot be read to their end, more than max_bad = 0.01 allows: b.tar: \
             {reason}"
        )
    );
    assert_eq!(
        help,
        "fetch or pack them again, or raise max_bad to use what was read of them"
    );
    let summary = world.done("web = read.webdataset(\"*.tar\", max_bad = 0.5)\n");
    assert_eq!(end(&summary, "web").count, Some(4));
    assert_eq!(
        world.rejected(&summary, "web"),
        [("b.tar".to_owned(), reason)]
    );
}

#[test]
fn files_beside_shards_and_beside_samples_are_skipped_and_counted() {
    let world = World::new();
    let samples = scenes("web", 3);
    world.shard(
        "web/a.tar",
        &[
            ("README", "md", b"about".as_slice()),
            ("x", "jpg", &samples[0].jpeg),
            ("._x", "jpg", b"fork"),
            ("x", "txt", b"one"),
            ("y", "jpg", &samples[1].jpeg),
            ("y", "json", b"{\"caption\": \"\\ud83d\"}"),
            ("y", "txt", b"two"),
            ("x", "jpg", &samples[2].jpeg),
            ("x", "txt", b"three"),
        ],
    );
    let two = std::fs::read(world.path("web/a.tar")).unwrap();
    world.shard_of("web/b.tar", &scenes("more", 1));
    world.write(
        "web/b.tar",
        [std::fs::read(world.path("web/b.tar")).unwrap(), two].concat(),
    );
    world.write("web/._a.tar", b"fork");
    world.write("web/.DS_Store", b"x");
    world.write("web/LICENSE", b"terms");
    let summary = world.done("web = read.webdataset(\"web/*\")\n");
    assert_eq!(end(&summary, "web").count, Some(4));
    assert_eq!(end(&summary, "web").rejected, 0);
    assert_eq!(
        *end(&summary, "web").notes,
        [
            "3 samples have the image of another sample: their texts were merged",
            "1 files (the first: web/LICENSE) are no shards: skipped",
            "4 members (the first: web/a.tar: ._x.jpg) are no samples: skipped",
            "1 shards (the first: web/b.tar) are several tar files in one: all were read",
            "2 samples (the first: web/a.tar) have a .json that cannot be read: their .txt was used",
            "2 samples (the first: web/a.tar) have the key of an earlier sample of their shard: all \
             were read",
        ]
    );
    // A file of such a name that is asked for is read.
    world.shard_of("._a.tar", &samples);
    let summary = world.done("web = read.webdataset(\"._a.tar\")\n");
    assert_eq!(end(&summary, "web").count, Some(3));
}

#[test]
fn a_sample_whose_members_are_far_apart_is_read_complete_or_not_at_all() {
    let world = World::new();
    let samples = scenes("web", 3);
    world.shard(
        "a.tar",
        &[
            ("x", "jpg", samples[0].jpeg.as_slice()),
            ("y", "txt", b"two"),
            ("z", "jpg", &samples[2].jpeg),
            ("z", "txt", b"three"),
            ("x", "txt", b"one"),
            ("y", "jpg", &samples[1].jpeg),
            ("z", "json", b"{}"),
        ],
    );
    let summary = world.done("web = read.webdataset(\"*.tar\", max_bad = 0.5)\n");
    assert_eq!(world.texts(&summary, "web"), ["one", "two"]);
    assert_eq!(
        world.rejected(&summary, "web"),
        list([(
            "a.tar: z",
            "its .json is not beside its other members: pack them sorted by name (`tar \
             --sort=name`)"
        )])
    );
}

#[test]
fn names_with_brackets_and_braces_are_found() {
    let world = World::new();
    let samples = scenes("web", 5);
    for (at, name) in [
        "a[1].tar",
        "x [2]/00.tar",
        "x [2]/01.tar",
        "x [2]/02.tar",
        "x2/00.tar",
    ]
    .into_iter()
    .enumerate()
    {
        world.shard_of(name, &samples[at..=at]);
    }
    let count = |pattern: &str| {
        let summary = world.done(&format!("web = read.webdataset(\"{pattern}\")\n"));
        end(&summary, "web").count
    };
    assert_eq!(count("a[1].tar"), Some(1));
    assert_eq!(count("a[[]1].tar"), Some(1));
    assert_eq!(count("x [2]/*.tar"), Some(3));
    assert_eq!(count("x [2]/{00..01}.tar"), Some(2));
    assert_eq!(count("{x [2]/02,x2/*,a*}.tar"), Some(3));
    let failed = |pattern: &str| {
        let text = format!("web = read.webdataset(\"{pattern}\")\n");
        world.failure(&text, "web")
    };
    assert_eq!(failed("x2/{00..02}.tar").0, "there is no file x2/01.tar");
    assert_eq!(
        failed("{0..1000000}.tar"),
        (
            "`{0..1000000}.tar` stands for more than a million files".to_owned(),
            "name fewer files, or use `*`".to_owned()
        )
    );
}
