//! Arguments that say which member or field has the image and the caption.

use blip_engine::Summary;

use crate::world::{World, scenes};

/// The arguments in the key of a stage's result.
fn arguments_in_key(world: &World, summary: &Summary, stage: &str) -> Vec<String> {
    let reader = world.engine().reader();
    let record = reader.record(&summary.results[stage].key).unwrap();
    let names = record.key_inputs.into_iter().map(|(name, _)| name);
    names.filter(|name| name.starts_with("argument")).collect()
}

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
    // Without the arguments, keys are as before there were any.
    world.shard_of("a.tar", &samples);
    let summary = world.done(&read(""));
    assert_eq!(
        arguments_in_key(&world, &summary, "web"),
        ["argument max_bad", "argument source"]
    );
}

#[test]
fn fields_can_be_named_and_older_results_stay_valid() {
    let world = World::new();
    for sample in scenes("human", 2) {
        world.write(&format!("images/{}.jpg", sample.key), &sample.jpeg);
    }
    world.write(
        "list.json",
        r#"[{"image": "human-000000.jpg", "caption": ["a ring", "one ring"]}, {"image": "human-000001.jpg", "caption": "a cross"}]"#,
    );
    let summary = world.done("human = read.captions(\"list.json\", images = \"images\")\n");
    assert_eq!(
        arguments_in_key(&world, &summary, "human"),
        ["argument max_bad", "argument source"],
        "as before there were others"
    );
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

/// An argument that is added must not change the keys of those that do without it.
#[test]
fn the_key_of_a_list_is_this_one() {
    let world = World::new();
    let header: [&[u8]; 9] = [
        b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0",
        b"\x28\0\0\0\x01\0\0\0\x01\0\0\0",
        b"\x01\0\x18\0",
        &[0; 4],
        b"\x04\0\0\0",
        &[0; 8],
        &[0; 4],
        &[0; 4],
        b"\x01\x02\x03\0",
    ];
    world.write("a.bmp", header.concat());
    world.write("list.json", r#"[{"image": "a.bmp", "caption": "a ring"}]"#);
    let summary = world.done("human = read.captions(\"list.json\")\n");
    assert_eq!(
        summary.results["human"].key.to_string(),
        "bdf90549934825e9acce8a77c3483f355cc633347b671ec1a0bca81daa8c004d"
    );
}
