//! `read.captions`.

use blip_engine::Status;

use crate::world::{World, end, list, scenes};

fn world() -> World {
    let world = World::new();
    for sample in scenes("human", 3) {
        world.write(&format!("images/{}.jpg", sample.key), &sample.jpeg);
    }
    world.write(
        "list.json",
        r#"[{"image": "human-000000.jpg", "caption": ["a ring", "one ring"]}, {"image": "human-000001.jpg", "caption": "a cross"}]"#,
    );
    world
}

const READ: &str = "human = read.captions(\"list.json\", images = \"images\")\n";

#[test]
fn both_list_formats_give_the_same_dataset() {
    let world = world();
    let summary = world.done(READ);
    assert_eq!(
        world.texts(&summary, "human"),
        ["a cross", "a ring", "one ring"]
    );
    world.write(
        "images/coco.json",
        r#"{"images": [{"id": 1, "file_name": "human-000000.jpg"}, {"id": 2, "file_name": "human-000001.jpg"}],
            "annotations": [{"id": 7, "image_id": 2, "caption": "a cross"}, {"id": 8, "image_id": 1, "caption": "one ring"},
                            {"id": 9, "image_id": 1, "caption": "a ring"}]}"#,
    );
    let coco = world.done("human = read.captions(\"images/coco.json\")\n");
    assert_eq!(
        coco.results["human"].output,
        summary.results["human"].output
    );
}

#[test]
fn two_exchanged_files_are_another_dataset() {
    let world = world();
    let before = world.done(READ);
    let (one, two) = (
        world.path("images/human-000000.jpg"),
        world.path("images/human-000001.jpg"),
    );
    let other = world.path("images/other.jpg");
    std::fs::rename(&one, &other).unwrap();
    std::fs::rename(&two, &one).unwrap();
    std::fs::rename(&other, &two).unwrap();
    let after = world.done(READ);
    assert_eq!(end(&after, "human").status, Status::Ran);
    assert_ne!(
        after.results["human"].output,
        before.results["human"].output
    );
}

#[test]
fn bad_samples_are_rejected_and_return_once_they_are_fixed() {
    let world = world();
    world.write("images/broken.jpg", b"\xff\xd8 no picture \xff\xd9");
    world.write(
        "list.json",
        r#"[{"image": "human-000000.jpg", "caption": "a ring"}, {"image": "missing.jpg", "caption": "a cross"},
            {"image": "broken.jpg", "caption": "a cross"}, {"image": "human-000001.jpg"},
            {"image": "../list.json", "caption": "a cross"}]"#,
    );
    let read = "human = read.captions(\"list.json\", images = \"images\", max_bad = 0.9)\n";
    let summary = world.done(read);
    assert_eq!(world.texts(&summary, "human"), ["a ring"]);
    assert_eq!(
        world.rejected(&summary, "human"),
        list([
            ("human-000001.jpg", "it has no `caption`"),
            ("../list.json", "its path leads out of the folder of images"),
            (
                "broken.jpg",
                "the image is truncated: the file ends before the picture does"
            ),
            ("missing.jpg", "the file is missing or cannot be read"),
        ])
    );
    std::fs::copy(
        world.path("images/human-000002.jpg"),
        world.path("images/missing.jpg"),
    )
    .unwrap();
    assert_eq!(
        world.texts(&world.done(read), "human"),
        ["a cross", "a ring"]
    );
}

#[test]
fn a_list_in_another_format_is_reported() {
    let world = World::new();
    world.write("list.json", "{\"captions\": []}");
    assert_eq!(
        world.failure(READ, "human"),
        (
            "list.json is not a captions list: not COCO captions: missing \
             field `images`"
                .to_owned(),
            "use BLIP's format, `[{\"image\": path, \"caption\": text}]`, or COCO's captions"
                .to_owned()
        )
    );
}
