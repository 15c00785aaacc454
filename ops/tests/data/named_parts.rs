//! Arguments that say which member or field has the image and the caption.

use crate::world::{World, scenes};

#[test]
fn members_can_be_named() {
    let world = World::new();
    let samples = scenes("web", 2);
    let jpeg = |at: usize| samples[at].jpeg.as_slice();
    world.shard(
        "a.tar",
        &[
            ("x", "input.jpg", jpeg(0)),
            ("x", "edited.jpg", b"unused".as_slice()),
            ("x", "json", b"{\"alt\": \" one \", \"url\": \"u\"}"),
            ("y", "input.jpg", jpeg(1)),
            ("y", "edited.jpg", b"unused"),
            ("y", "json", b"{\"alt\": \"two\"}"),
        ],
    );
    let read = |args: &str| format!("web = read.webdataset(\"*.tar\"{args})\n");
    let help = "name the members: `image = \"jpg\"`, `caption = \"txt\"` or, for a field of a JSON \
                member, `caption = \"json.FIELD\"`";
    assert_eq!(
        world.failure(&read(""), "web"),
        (
            "none of the 2 samples can be used: a.tar: x: it has no image, only .edited.jpg, \
             .input.jpg, .json; a.tar: y: it has no image, only .edited.jpg, .input.jpg, .json"
                .to_owned(),
            help.to_owned()
        )
    );
    assert_eq!(
        world.failure(&read(", image = \"input.jpg\""), "web").0,
        "none of the 2 samples can be used: a.tar: x: it has neither a .txt nor a `caption` in a \
         .json, only .edited.jpg, .input.jpg, .json; a.tar: y: it has neither a .txt nor a \
         `caption` in a .json, only .edited.jpg, .input.jpg, .json"
    );
    let summary = world.done(&read(", image = \"input.jpg\", caption = \"json.alt\""));
    assert_eq!(world.texts(&summary, "web"), ["one", "two"]);
    let failure = world.failure(
        &read(", image = \"input.jpg\", caption = \"json.url\", max_bad = 0"),
        "web",
    );
    assert_eq!(
        failure.0,
        "1 of 2 samples cannot be used, more than max_bad = 0.0 allows: a.tar: y: its .json has no \
         `url`, only `alt`"
    );
    assert_eq!(
        world.failure(&read(", caption = \"json\""), "web"),
        (
            "`caption = \"json\"` names no field of the JSON: write `json.FIELD`".to_owned(),
            help.to_owned()
        )
    );
}

#[test]
fn fields_can_be_named() {
    let world = World::new();
    for sample in scenes("human", 2) {
        world.write(&format!("images/{}.jpg", sample.key), &sample.jpeg);
    }
    world.write(
        "list.json",
        r#"[{"image": "human-000000.jpg", "caption": ["a ring", "one ring"]}, {"image": "human-000001.jpg", "caption": "a cross"}]"#,
    );
    let summary = world.done("human = read.captions(\"list.json\", images = \"images\")\n");
    world.write(
        "list.json",
        r#"[{"img": "human-000000.jpg", "alt": ["a ring", "one ring"]}, {"img": "human-000001.jpg", "alt": "a cross"}]"#,
    );
    let read = |fields: &str| {
        format!("human = read.captions(\"list.json\", images = \"images\", {fields})\n")
    };
    let named = world.done(&read("image_field = \"img\", caption_field = \"alt\""));
    assert_eq!(
        named.results["human"].output,
        summary.results["human"].output
    );
    assert_eq!(
        world.failure(&read("image_field = \"img\""), "human").0,
        "list.json is not a captions list: its entries have no `caption`, only `img`, `alt`: name \
         the field with the text by `caption_field`"
    );
}
