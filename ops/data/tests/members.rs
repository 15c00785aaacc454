//! Shards whose images and captions are in members that the user names.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use blip_data::shard::{self, ShardWriter};

fn shard_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ShardWriter::new(Vec::new());
    for (name, bytes) in members {
        let (key, suffix) = name.split_once('.').unwrap();
        writer.add(key, suffix, bytes).unwrap();
    }
    writer.finish().unwrap()
}

fn read_as(image: Option<&str>, caption: Option<&str>, bytes: &[u8]) -> Vec<String> {
    let members = shard::Members::new(image, caption).unwrap();
    let mut found = Vec::new();
    let notes = shard::read_members(bytes, &members, |sample| {
        found.push(match sample {
            Ok(sample) => format!(
                "{}={}/{}",
                sample.key,
                String::from_utf8_lossy(&sample.image),
                sample.text
            ),
            Err(rejected) => format!("{}: {}", rejected.key, rejected.reason),
        });
        Ok::<(), ()>(())
    });
    notes.unwrap().unwrap();
    found
}

#[test]
fn only_the_members_that_are_named_count() {
    let shard = shard_of(&[
        ("a.jpg", b"one"),
        ("a.png", b"two"),
        ("a.txt", b"short"),
        ("a.long.txt", b"a long text"),
        (
            "a.json",
            br#"{"caption": "c", "alt": "d", "n": 1, "none": null}"#,
        ),
        ("a.syn.json", br#"{"x.y": "e"}"#),
    ]);
    let read = |image, caption| read_as(image, caption, &shard);
    assert_eq!(read(Some("jpg"), None), ["a=one/short"]);
    assert_eq!(read(Some("png"), Some("long.txt")), ["a=two/a long text"]);
    assert_eq!(read(Some("png"), Some("json.caption")), ["a=two/c"]);
    assert_eq!(read(Some("png"), Some("json.alt")), ["a=two/d"]);
    assert_eq!(read(Some("png"), Some("syn.json.x.y")), ["a=two/e"]);
    for (image, caption, reason) in [
        (
            None,
            None,
            "it has several images: .jpg, .json, .long.txt, .png, .syn.json, .txt",
        ),
        (
            Some("webp"),
            None,
            "it has no .webp, only .jpg, .json, .long.txt, .png, .syn.json, .txt",
        ),
        (
            Some("jpg"),
            Some("alt.txt"),
            "it has no .alt.txt, only .jpg, .json, .long.txt, .png, .syn.json, .txt",
        ),
        (
            Some("jpg"),
            Some("json.n"),
            "the `n` in its .json is no string",
        ),
        (
            Some("jpg"),
            Some("json.none"),
            "the `none` in its .json is null",
        ),
        (
            Some("jpg"),
            Some("syn.json.alt"),
            "its .syn.json has no `alt`, only `x.y`",
        ),
    ] {
        assert_eq!(read(image, caption), [format!("a: {reason}")]);
    }
    // A text that a model wrote does not pass for one from the web, whichever member has it.
    let ours = br#"{"format": "blip/pair/2", "caption": "#;
    let cut = shard_of(&[("a.jpg", b"one"), ("a.alt.txt", b"x"), ("a.json", ours)]);
    assert_eq!(
        read_as(None, Some("alt.txt"), &cut),
        ["a: its .json ends early"]
    );
}
