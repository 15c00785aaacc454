//! `read.scenes`.

use blip_data::TextSource;
use blip_data::scenes::Scene;
use blip_engine::Status;

use crate::world::{World, end};

#[test]
fn a_split_has_the_requested_fraction_of_wrong_texts() {
    let world = World::new();
    let summary = world.done(
        "web = read.scenes(\"web\", count = 300, mismatched = 0.3, junk = 0.1, side = 16, seed = \
         7)\n\
         human = read.scenes(\"human\", count = 50, style = \"human\", side = 16, seed = 7)\n",
    );
    let count_matching = |stage: &str| {
        let samples = world.samples(&summary, stage);
        let matching = |(_, sample): &&(_, blip_data::Sample)| {
            Scene::from_ground_truth(sample.ground_truth.as_ref().unwrap())
                .unwrap()
                .matches(&sample.texts[0].text)
        };
        (samples.len(), samples.iter().filter(matching).count())
    };
    let (count, matching) = count_matching("web");
    assert_eq!(count, 300);
    assert!((150..210).contains(&matching), "{matching} of 300 match");
    assert_eq!(count_matching("human"), (50, 50));
    let source = |stage: &str| world.samples(&summary, stage)[0].1.texts[0].source;
    assert_eq!(
        (source("web"), source("human")),
        (TextSource::Web, TextSource::Human)
    );
}

#[test]
fn the_size_of_shards_does_not_change_the_dataset() {
    let world = World::new();
    let one =
        world.done("web = read.scenes(\"web\", count = 40, side = 16, shard = 40, seed = 7)\n");
    let other = World::new();
    let many =
        other.done("web = read.scenes(\"web\", count = 40, side = 16, shard = 7, seed = 7)\n");
    assert_eq!(one.results["web"].output, many.results["web"].output);
    assert_ne!(
        one.results["web"].side_outputs,
        many.results["web"].side_outputs
    );
    let again =
        world.done("web = read.scenes(\"web\", count = 40, side = 16, shard = 7, seed = 7)\n");
    assert_eq!(end(&again, "web").status, Status::Reused);
}

#[test]
fn invalid_arguments_are_reported() {
    let world = World::new();
    assert_eq!(
        world.failure("web = read.scenes(\"a/b\", count = 4, seed = 7)\n", "web"),
        (
            "`a/b` is not a valid split name".to_owned(),
            "use 1 to 40 letters, digits, `-` and `_`: every sample's key begins with it"
                .to_owned()
        )
    );
    assert_eq!(
        world.failure(
            "web = read.scenes(\"a\", count = 4, mismatched = 0.75, junk = 0.5, seed = 7)\n",
            "web"
        ),
        (
            "mismatched = 0.75 and junk = 0.5 add up to more than 1".to_owned(),
            "they are fractions of all texts: lower one of them".to_owned()
        )
    );
}
