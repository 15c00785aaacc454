//! What a user can get wrong around the data: what is said, and that nothing else is lost.

use blip_engine::{Outcome, RunOptions, Status};

use crate::world::{World, end, scenes};

#[test]
fn missing_files_are_named() {
    let world = World::new();
    let here = world.folder.path().display().to_string();
    assert_eq!(
        world.failure("web = read.webdataset(\"web/*.tar\")\n", "web"),
        (
            format!("no file matches `web/*.tar` in {here}"),
            "check the pattern; it is relative to the workflow's folder".to_owned()
        )
    );
    for (text, file) in [
        ("a = read.webdataset(\"web.tar\")\n", "web.tar"),
        ("a = read.captions(\"list.json\")\n", "list.json"),
        ("a = read.wordpiece(\"vocab.txt\")\n", "vocab.txt"),
    ] {
        let help = "check the path; it is relative to the workflow's folder".to_owned();
        assert_eq!(world.failure(text, "a"), (format!("there is no file {file}"), help));
    }
}

#[test]
fn a_folder_is_no_shard() {
    let world = World::new();
    std::fs::create_dir(world.path("web.tar")).unwrap();
    assert_eq!(
        world.failure("web = read.webdataset(\"web.tar\")\n", "web"),
        ("web.tar is not a file".to_owned(), "name a file, or a pattern such as `data/*.tar`".to_owned())
    );
}

#[test]
fn a_shard_of_something_else_says_so() {
    let world = World::new();
    world.write("web.tar", "this is no tar file, it is a text that somebody saved under a wrong name\n".repeat(20));
    assert_eq!(
        world.failure("web = read.webdataset(\"web.tar\")\n", "web").0,
        "none of the 1 samples can be used: web.tar: it is no tar file, or is damaged from its beginning"
    );
}

#[test]
fn no_sample_at_all_says_so() {
    let world = World::new();
    world.shard::<&[u8]>("web.tar", &[]);
    let help = "a sample is an image and a text: see `blip ops` for what is read here".to_owned();
    assert_eq!(
        world.failure("web = read.webdataset(\"web.tar\")\n", "web"),
        ("there is no sample".to_owned(), help.clone())
    );
    world.write("list.json", "[]");
    assert_eq!(
        world.failure("human = read.captions(\"list.json\")\n", "human"),
        ("there is no sample".to_owned(), help)
    );
}

#[test]
fn one_pair_is_a_dataset() {
    let world = World::new();
    world.shard_of("web.tar", &scenes("web", 1));
    let summary = world.done("web = read.webdataset(\"web.tar\")\nall = merge(web)\nvocab = learn.wordpiece(all)\n");
    assert_eq!(end(&summary, "all").count, Some(1));
}

#[test]
fn the_other_branches_go_on() {
    let world = World::new();
    world.write("bad.tar", "x".repeat(2000));
    world.shard_of("good.tar", &scenes("web", 3));
    let text = "bad = read.webdataset(\"bad.tar\")\nall = merge(bad, good)\ngood = read.webdataset(\"good.tar\")\n\
                vocab = learn.wordpiece(good)\n";
    let summary = world.run_with(text, &RunOptions { keep_going: true, ..RunOptions::default() });
    assert_eq!(summary.outcome, Outcome::Failed);
    let status = |stage| end(&summary, stage).status;
    assert_eq!((status("bad"), status("all")), (Status::Failed, Status::Skipped));
    assert_eq!((status("good"), status("vocab")), (Status::Ran, Status::Ran));
}
