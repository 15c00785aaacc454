//! Caption lists as they are found. An entry that cannot be used costs itself; of contradictions no
//! side is taken.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use blip_data::captions::{CaptionList, FieldNames, ListError};

fn read(bytes: &[u8]) -> Result<CaptionList, ListError> {
    blip_data::captions::read(bytes, &FieldNames::default())
}

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
        error(b"some words\n"),
        "`some words\\n` at byte 0 is no part of a JSON list"
    );
    assert_eq!(error(b"[] []"), "`[]` at byte 3 is no part of a JSON list");
    assert_eq!(
        error(br#"{"images": []}"#),
        "it is like COCO's captions, but has no `annotations`"
    );
    assert_eq!(list(b""), CaptionList::default());
    assert_eq!(list(b"[]"), CaptionList::default());
}

#[test]
fn files_of_other_kinds_are_named_with_what_to_do() {
    let utf16: Vec<u8> = "\u{feff}[{\"image\": \"a.jpg\"}]"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let utf16_big: Vec<u8> = "[]".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let to_utf8 = "it is UTF-16: make it UTF-8 (`iconv -f UTF-16 -t UTF-8`)";
    for (bytes, expected) in [
        (
            b"image,caption\na.jpg,x\n".as_slice(),
            "it is a table separated by commas (CSV), which begins with `image,caption`: make it \
             JSON, as by pandas' `read_csv(file).to_json(list, orient=\"records\", lines=True)`",
        ),
        (
            b"\xef\xbb\xbf1000.jpg#0\tA ring, red\n",
            "it is a table separated by tabs (TSV), which begins with `1000.jpg#0\\tA ring, red`: \
             make it JSON, as by pandas' `read_csv(file, sep=\"\\t\").to_json(list, \
             orient=\"records\", lines=True)`",
        ),
        (
            b"image;caption\r\n",
            "it is a table separated by semicolons (CSV), which begins with `image;caption`: make \
             it JSON, as by pandas' `read_csv(file, sep=\";\").to_json(list, orient=\"records\", \
             lines=True)`",
        ),
        (&utf16, to_utf8),
        (&utf16_big, to_utf8),
        (
            b"PAR1\x15\x04",
            "it is a Parquet file: make it JSON, as by pandas' `read_parquet(file).to_json(list, \
             orient=\"records\", lines=True)`",
        ),
        (
            b"\x1f\x8b\x08\0",
            "it is compressed with gzip: decompress it (`gunzip`)",
        ),
        (
            b"\x28\xb5\x2f\xfd\0",
            "it is compressed with zstd: decompress it (`unzstd`)",
        ),
        (b"PK\x03\x04", "it is a zip file: unpack it"),
        (&tar, "it is a tar file: `read.webdataset` reads shards"),
        (b"\x89PNG\r\n", "it is an image"),
        (
            b"<!DOCTYPE html>",
            "it is an HTML page, as a failed download leaves it",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
            "it is a Git LFS pointer: fetch the file itself (`git lfs pull`)",
        ),
    ] {
        assert_eq!(error(bytes), expected);
    }
}

#[test]
fn karpathys_splits_are_all_read() {
    let found = list(
        br#"{"images": [
        {"filepath": "val2014", "sentids": [1], "filename": "a.jpg", "imgid": 0, "split": "test",
         "sentences": [{"tokens": ["a", "ring"], "raw": "A ring. ", "imgid": 0, "sentid": 1},
                       {"tokens": [], "raw": "One ring", "imgid": 0, "sentid": 2}], "cocoid": 1},
        {"filename": "b.jpg", "split": "train", "sentences": [{"raw": "A cross"}, {"tokens": []}]},
        {"filepath": "", "filename": "c.jpg", "split": "train", "sentences": []},
        {"filename": "d.jpg", "sentences": [{"raw": "x"}], "split": 1},
        {"sentences": [{"raw": "x"}], "split": "val"}], "dataset": "coco"}"#,
    );
    assert_eq!(
        entries(&found),
        ["b.jpg=A cross", "val2014/a.jpg=A ring./One ring"]
    );
    assert_eq!(
        rejected(&found),
        [
            "b.jpg: one of its `sentences` has no `raw`",
            "c.jpg: its `sentences` is an empty list",
            "d.jpg: its `split` is no string",
            "image at byte 565: it has no `filename`",
        ]
    );
    let none = list(br#"{"images": [{"split": "val", "sentences": []}], "dataset": "coco"}"#);
    assert_eq!(rejected(&none), ["image at byte 12: it has no `filename`"]);
    let splits: Vec<(&str, u64)> = found.splits.iter().map(|(it, n)| (&**it, *n)).collect();
    assert_eq!(splits, [("test", 1), ("train", 1)]);
}

#[test]
fn fields_of_other_names_are_listed_and_can_be_named() {
    let lines = br#"{"img": "a.jpg", "alt": "x", "caption": "y", "id": 1}
                    {"img": "b.jpg", "alt": "z"}"#;
    assert_eq!(
        error(lines),
        "its entries have no `image`, only `img`, `alt`, `caption`, `id`: name the field with the \
         path by `image_field`"
    );
    assert_eq!(
        error(br#"[{"img": "a.jpg", "alt": "x"}]"#),
        "its entries have neither `image` nor `caption`, only `img`, `alt`: name the fields by \
         `image_field` and `caption_field`"
    );
    assert_eq!(
        error(br#"[{"url": "a.jpg", "file_name": "x"}]"#),
        "its entries have no `caption`, only `url`, `file_name`: name the field with the text by \
         `caption_field`"
    );
    let read_by = |bytes: &[u8], image: Option<&str>, caption: Option<&str>| {
        let names = FieldNames {
            image: image.map(ToOwned::to_owned),
            caption: caption.map(ToOwned::to_owned),
        };
        blip_data::captions::read(bytes, &names)
    };
    let found = read_by(lines, Some("img"), Some("alt")).unwrap();
    assert_eq!(entries(&found), ["a.jpg=x", "b.jpg=z"]);
    // A field that is named is the only one that counts.
    let found = read_by(lines, Some("img"), Some("caption")).unwrap();
    assert_eq!(entries(&found), ["a.jpg=y"]);
    assert_eq!(rejected(&found), ["b.jpg: it has no `caption`, only `alt`"]);
    assert_eq!(
        read_by(lines, Some("picture"), Some("alt"))
            .unwrap_err()
            .to_string(),
        "its entries have no `picture`, only `img`, `alt`, `caption`, `id`: name the field with the \
         path by `image_field`"
    );
    let coco = br#"{"images": [{"id": 1, "path": "c.jpg"}],
                    "annotations": [{"image_id": 1, "sentence": "w"}]}"#;
    assert_eq!(
        error(coco),
        "its annotations have no `caption`, only `image_id`, `sentence`: name the field with the \
         text by `caption_field`"
    );
    let found = read_by(coco, Some("path"), Some("sentence")).unwrap();
    assert_eq!(entries(&found), ["c.jpg=w"]);
    // Some entries that can be used: the others cost themselves.
    let found = list(br#"[{"img": "a.jpg"}, {"image": "b.jpg", "caption": "x"}]"#);
    assert_eq!(entries(&found), ["b.jpg=x"]);
    assert_eq!(rejected(&found), ["entry 0: it has no `image`, only `img`"]);
}
