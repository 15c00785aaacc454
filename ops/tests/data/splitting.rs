//! `split`.

use std::collections::BTreeSet;

use blip_engine::Digest;

use crate::world::World;

#[test]
fn parts_share_no_image_and_new_images_move_no_other() {
    let world = World::new();
    let text = |count: u32| {
        format!(
            "web = read.scenes(\"web\", count = {count}, side = 8, seed = 7)\n\
             train = split(web, to = 0.8, seed = 1)\nheld = split(web, from = 0.8, seed = 1)\n\
             other = split(web, from = 0.8, seed = 2)\n"
        )
    };
    let images = |count: u32, stage: &str| -> BTreeSet<Digest> {
        let summary = world.done(&text(count));
        world
            .samples(&summary, stage)
            .into_iter()
            .map(|(image, _)| image)
            .collect()
    };
    let (train, held) = (images(400, "train"), images(400, "held"));
    assert_eq!(
        (train.len() + held.len(), train.intersection(&held).count()),
        (400, 0)
    );
    assert!(
        (50..110).contains(&held.len()),
        "{} of 400 were held out",
        held.len()
    );
    assert_ne!(images(400, "other"), held);
    assert!(images(500, "held").is_superset(&held));
}

#[test]
fn an_empty_part_is_reported() {
    let world = World::new();
    let text = |from: &str, to: &str| {
        format!(
            "web = read.scenes(\"web\", count = 3, side = 8, seed = 7)\npart = split(web, from = \
             {from}, to = {to}, seed = 1)\n"
        )
    };
    assert_eq!(
        world.failure(&text("0.5", "0.5"), "part"),
        (
            "the range from = 0.5, to = 0.5 is empty".to_owned(),
            "`from` must be less than `to`, as in from = 0.0, to = 0.9".to_owned()
        )
    );
    assert_eq!(
        world.failure(&text("0.5", "0.5000001"), "part"),
        (
            "none of the 3 images is in the range from = 0.5, to = 0.5000001".to_owned(),
            "widen the range, or split a dataset with more images".to_owned()
        )
    );
}
