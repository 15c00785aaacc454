//! `merge`.

use blip_data::TextSource;

use crate::world::{World, end, scenes};

#[test]
fn datasets_are_merged_by_image_and_duplicate_texts_are_dropped() {
    let world = World::new();
    let samples = scenes("web", 3);
    let jpeg = |at: usize| samples[at].jpeg.as_slice();
    let ring: &[u8] = b"A ring!";
    world.shard(
        "web.tar",
        &[
            ("a", "jpg", jpeg(0)),
            ("a", "txt", ring),
            ("b", "jpg", jpeg(1)),
            ("b", "txt", b"a cross"),
        ],
    );
    world.shard(
        "human.tar",
        &[
            ("c", "jpg", jpeg(0)),
            ("c", "txt", b"a ring"),
            ("d", "jpg", jpeg(2)),
            ("d", "txt", ring),
        ],
    );
    let text = "web = read.webdataset(\"web.tar\")\nhuman = read.webdataset(\"human.tar\", source \
                = \"human\")\n";
    let summary = world.done(&format!(
        "{text}both = merge(web, human)\nsame = merge(human, web)\n"
    ));
    assert_eq!(
        world.texts(&summary, "both"),
        ["A ring!", "a cross", "a ring"]
    );
    assert_eq!(end(&summary, "both").count, Some(3));
    assert_eq!(*end(&summary, "both").notes, ["1 duplicate texts dropped"]);
    assert_eq!(
        summary.results["both"].output,
        summary.results["same"].output
    );
    let both = world.samples(&summary, "both");
    let merged = both
        .iter()
        .find(|(image, _)| *image == blip_engine::Digest::of(jpeg(0)))
        .unwrap();
    assert_eq!(
        merged
            .1
            .texts
            .iter()
            .map(|text| (text.source, text.key.as_str()))
            .collect::<Vec<_>>(),
        [(TextSource::Human, "c")]
    );
}
