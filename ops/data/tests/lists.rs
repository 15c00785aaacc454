//! Caption lists as they are found. An entry that cannot be used costs itself; of contradictions no
//! side is taken.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use blip_data::captions::{CaptionList, read};

fn list(bytes: &[u8]) -> CaptionList {
    read(bytes).unwrap()
}

/// As in `a.jpg=one/two`.
fn entries(list: &CaptionList) -> Vec<String> {
    list.entries
        .iter()
        .map(|entry| format!("{}={}", entry.image, entry.captions.join("/")))
        .collect()
}

/// As in `a.jpg: reason`.
fn rejected(list: &CaptionList) -> Vec<String> {
    list.rejected
        .iter()
        .map(|(item, reason)| format!("{item}: {reason}"))
        .collect()
}

fn error(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn all_formats_are_read() {
    let blip = br#"[
        {"image": "b.jpg", "caption": "x"},
        {"image": "./a.jpg", "caption": ["y", " z "]},
        {"image": "b.jpg", "caption": "w", "image_id": "coco_1"}
    ]"#;
    let found = list(blip);
    assert_eq!(entries(&found), ["a.jpg=y/z", "b.jpg=x/w"]);
    assert_eq!((found.rejected.len(), found.repeated), (0, 1));
    let lines = b"\xef\xbb\xbf{\"file_name\": \"a.png\", \"text\": \"y\"}\r\n\
                  {\"image_path\": \"/data/b.png\", \"captions\": [\"x\"], \"score\": NaN}\r\n";
    assert_eq!(entries(&list(lines)), ["/data/b.png=x", "a.png=y"]);
    // COCO's parts come in any order; ids are numbers or strings.
    let coco = br#"{
        "annotations": [{"id": 1, "image_id": "3", "caption": "v"}, {"image_id": 4.0, "caption": "u"}],
        "images": [{"id": 3, "file_name": "c.jpg", "width": 1}, {"id": 4, "file_name": "d.jpg"},
                   {"id": 5, "file_name": "e.jpg"}],
        "info": {}
    }"#;
    let found = list(coco);
    assert_eq!(entries(&found), ["c.jpg=v", "d.jpg=u"]);
    assert_eq!(
        (found.without_captions, found.first_without.as_deref()),
        (1, Some("e.jpg"))
    );
}

#[test]
fn an_entry_that_cannot_be_used_costs_itself() {
    let long = "x".repeat(1 << 20);
    let bytes = format!(
        r#"[
        {{"image": "../../etc/passwd", "caption": "x"}},
        {{"image": "https://example.org/a.jpg", "caption": "x"}},
        {{"caption": "x", "id": 1}},
        {{"image": "a.jpg", "conversations": []}},
        {{"image": "b.jpg", "caption": " "}},
        {{"image": "b2.jpg", "caption": []}},
        {{"image": "b3.jpg", "caption": null}},
        {{"image": "b4.jpg", "caption": NaN}},
        {{"image": "b5.jpg", "caption": 7}},
        {{"image": "b6.jpg", "caption": "\ud83d"}},
        {{"image": "b7.jpg", "caption": "x", "caption": "y"}},
        {{"image": "b8.jpg", "caption": ["x", null]}},
        {{"image": null, "caption": "x"}},
        {{'image': 'b9.jpg'}},
        [1],
        {{"image": "long.jpg", "caption": "{long}"}},
        {{"image": "c.jpg", "caption": "ok"}}
    ]"#
    );
    let found = list(bytes.as_bytes());
    assert_eq!(entries(&found), ["b8.jpg=x", "c.jpg=ok"]);
    assert_eq!(
        rejected(&found),
        [
            "../../etc/passwd: its path leads out of the folder of images",
            "https://example.org/a.jpg: its image is a URL: fetch it, for example with img2dataset",
            "entry 2: it has no `image`, only `caption`, `id`",
            "a.jpg: it has no `caption`, only `conversations`",
            "b.jpg: its caption is empty",
            "b2.jpg: its `caption` is an empty list",
            "b3.jpg: its `caption` is null",
            "b4.jpg: its `caption` is null",
            "b5.jpg: its `caption` is neither a string nor a list of strings",
            "entry 9: it has half of a surrogate pair (`\\ud83d` alone)",
            "entry 10: it has several `caption`",
            "b8.jpg: one of its captions is no text",
            "entry 12: its `image` is no string",
            "entry 13: it is no valid JSON at line 1, column 2",
            "entry 14: it is no object (`{…}`)",
            "entry 15: it is longer than 1048576 bytes",
        ]
    );
}

#[test]
fn of_contradictions_no_side_is_taken() {
    let found = list(
        br#"{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"},
                        {"id": 2, "file_name": "c.jpg"}, {"id": 2, "file_name": "c.jpg"},
                        {"id": 3, "file_name": "c.jpg"}, {"file_name": "d.jpg"}],
             "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": 2, "caption": "y"},
                             {"image_id": 3, "caption": "z"}, {"image_id": 9, "caption": "w"},
                             {"image_id": 2, "bbox": [0]}, {"caption": "v"}]}"#,
    );
    assert_eq!(entries(&found), ["c.jpg=y/z"]);
    assert_eq!(found.repeated, 1);
    assert_eq!(
        rejected(&found),
        [
            "d.jpg: it has no `id`",
            "annotation of image 2: it has no `caption`, only `image_id`, `bbox`",
            "annotation at byte 501: it has no `image_id`",
            "annotation of image 9: there is no image of that id",
            "image 1: several images have this id: a.jpg, b.jpg",
        ]
    );
}

#[test]
fn other_files_are_named_as_what_they_are() {
    assert_eq!(
        error(br#"[{"image": "a.jpg", "caption": "x"}, {"image": "b.jp"#),
        "it ends early, inside what begins at byte 37, after 1 entries"
    );
    assert_eq!(
        error(b"image,caption\na.jpg,x\n"),
        "`image,caption\\na.jpg,` at byte 0 is no part of a JSON list"
    );
    assert_eq!(
        error(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
        "it is a Git LFS pointer: fetch the file itself (`git lfs pull`)"
    );
    assert_eq!(error(b"[] []"), "`[]` at byte 3 is no part of a JSON list");
    assert_eq!(
        error(br#"{"images": []}"#),
        "it is like COCO's captions, but has no `annotations`"
    );
    assert_eq!(
        error(br#"{"images": [{"filename": "a.jpg", "split": "test", "sentences": []}]}"#),
        "it is one of Karpathy's split files, with the images of all splits"
    );
    let found = list(br#"{"captions": []}"#);
    assert_eq!(
        rejected(&found),
        ["entry 0: it has no `image`, only `captions`"]
    );
    assert_eq!(list(b""), CaptionList::default());
    assert_eq!(list(b"[]"), CaptionList::default());
}
