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
            {"image": "large.jpg", "caption": "a cross"},
            {"image": "../list.json", "caption": "a cross"}]"#,
    );
    // A sparse file: it takes no room on the disk.
    let large = std::fs::File::create(world.path("images/large.jpg")).unwrap();
    large.set_len((64 << 20) + 1).unwrap();
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
            (
                "large.jpg",
                "the image has 67108865 bytes; at most 67108864 are read"
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
    world.write("list.json", "image,caption\na.jpg,a ring\n");
    assert_eq!(
        world.failure(READ, "human"),
        (
            "list.json is not a captions list: it is a table separated by commas (CSV), which \
             begins with `image,caption`: make it JSON, as by pandas' `read_csv(file).to_json(list, \
             orient=\"records\", lines=True)`"
                .to_owned(),
            "use BLIP's format, `[{\"image\": path, \"caption\": text}]`, or COCO's captions"
                .to_owned()
        )
    );
    world.write("list.json", "{\"captions\": []}");
    assert_eq!(
        world.failure(READ, "human").0,
        "list.json is not a captions list: its entries have no `image`, only `captions`: name the \
         field with the path by `image_field`"
    );
}

#[test]
fn karpathys_file_is_read_with_a_note_on_its_splits() {
    let world = world();
    world.write(
        "list.json",
        r#"{"images": [{"filepath": "images", "filename": "human-000000.jpg", "split": "train",
                        "sentences": [{"raw": "a ring"}]},
                       {"filepath": "images", "filename": "human-000001.jpg", "split": "val",
                        "sentences": [{"raw": "a cross"}]}], "dataset": "coco"}"#,
    );
    let summary = world.done("human = read.captions(\"list.json\")\n");
    assert_eq!(world.texts(&summary, "human"), ["a cross", "a ring"]);
    assert_eq!(
        *end(&summary, "human").notes,
        ["the images of all splits were read: train 1, val 1"]
    );
}

#[test]
fn paths_are_found_as_they_are_meant() {
    let world = World::new();
    let samples = scenes("human", 5);
    // As macOS writes it, as Windows writes it, absolute, and two ways to the same file.
    world.write("images/cafe\u{301}.jpg", &samples[0].jpeg);
    world.write("images/x/y.jpg", &samples[1].jpeg);
    world.write("elsewhere/z.jpg", &samples[2].jpeg);
    world.write("images/w.jpg", &samples[3].jpeg);
    let absolute = world.path("elsewhere/z.jpg").display().to_string();
    let list = serde_json::json!([
        {"image": "caf\u{e9}.jpg", "caption": "one"},
        {"image": "x\\y.jpg", "caption": "two"},
        {"image": absolute, "caption": "three"},
        {"image": "./w.jpg", "caption": "four"},
        {"image": "x/../w.jpg", "caption": "five"},
        {"image": "x\\..\\..\\elsewhere\\z.jpg", "caption": "six"},
        {"image": "../elsewhere/z.jpg", "caption": "seven"},
    ]);
    world.write("list.json", list.to_string());
    let summary =
        world.done("human = read.captions(\"list.json\", images = \"images\", max_bad = 0.4)\n");
    assert_eq!(
        world.texts(&summary, "human"),
        ["five", "four", "one", "three", "two"]
    );
    assert_eq!(
        *end(&summary, "human").notes,
        ["1 images are listed several times: their captions were merged"]
    );
    assert_eq!(
        world.rejected(&summary, "human"),
        crate::world::list([
            (
                "../elsewhere/z.jpg",
                "its path leads out of the folder of images"
            ),
            (
                "x\\..\\..\\elsewhere\\z.jpg",
                "the file is missing or cannot be read"
            ),
        ])
    );
}

#[test]
fn the_folder_of_images_is_a_folder() {
    let world = world();
    let failure = |images: &str| {
        let text = format!("human = read.captions(\"list.json\", images = \"{images}\")\n");
        world.failure(&text, "human")
    };
    let help = "`images` is the folder that the paths in the list are relative to".to_owned();
    assert_eq!(
        failure("image"),
        ("there is no folder image".to_owned(), help.clone())
    );
    assert_eq!(
        failure("list.json"),
        ("list.json is a file, not a folder".to_owned(), help)
    );
}
