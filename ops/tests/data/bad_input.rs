//! What users get wrong around the data: the messages, and that nothing else is lost.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::{Event, Listener, Outcome, RunOptions, Status};

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
        assert_eq!(
            world.failure(text, "a"),
            (format!("there is no file {file}"), help)
        );
    }
}

#[test]
fn a_folder_is_not_a_shard() {
    let world = World::new();
    std::fs::create_dir(world.path("web.tar")).unwrap();
    assert_eq!(
        world.failure("web = read.webdataset(\"web.tar\")\n", "web"),
        (
            "web.tar is not a file".to_owned(),
            "name a file in it".to_owned()
        )
    );
}

#[test]
fn a_shard_that_is_no_tar_file_is_reported() {
    let world = World::new();
    world.write(
        "web.tar",
        "this is not a tar file but a text that was saved under the wrong name\n".repeat(20),
    );
    assert_eq!(
        world
            .failure("web = read.webdataset(\"web.tar\")\n", "web")
            .0,
        "no sample can be used: web.tar: it is no tar file, or is corrupt from its first byte"
    );
}

#[test]
fn a_dataset_without_samples_is_reported() {
    let world = World::new();
    world.shard::<&[u8]>("web.tar", &[]);
    let help =
        "a sample is an image with a text: `blip ops` describes what each op reads".to_owned();
    assert_eq!(
        world.failure("web = read.webdataset(\"web.tar\")\n", "web"),
        ("no samples found".to_owned(), help.clone())
    );
    world.write("list.json", "[]");
    assert_eq!(
        world.failure("human = read.captions(\"list.json\")\n", "human"),
        ("no samples found".to_owned(), help)
    );
}

#[test]
fn one_pair_is_a_dataset() {
    let world = World::new();
    world.shard_of("web.tar", &scenes("web", 1));
    let summary = world.done(
        "web = read.webdataset(\"web.tar\")\nall = merge(web)\nvocab = learn.wordpiece(all)\n",
    );
    assert_eq!(end(&summary, "all").count, Some(1));
}

#[test]
fn other_branches_continue_after_a_failure() {
    let world = World::new();
    world.write("bad.tar", "x".repeat(2000));
    world.shard_of("good.tar", &scenes("web", 3));
    let text = "bad = read.webdataset(\"bad.tar\")\nall = merge(bad, good)\ngood = \
                read.webdataset(\"good.tar\")\n\
                vocab = learn.wordpiece(good)\n";
    let summary = world.run_with(
        text,
        &RunOptions {
            keep_going: true,
            ..RunOptions::default()
        },
    );
    assert_eq!(summary.outcome, Outcome::Failed);
    let status = |stage| end(&summary, stage).status;
    assert_eq!(
        (status("bad"), status("all")),
        (Status::Failed, Status::Skipped)
    );
    assert_eq!(
        (status("good"), status("vocab")),
        (Status::Ran, Status::Ran)
    );
}

/// A disk that is full once its flag is set.
#[derive(Default)]
struct Filling(AtomicBool);

impl Hook for Filling {
    fn before(&self, call: Syscall, _: &Path) -> FaultAction {
        let full = call == Syscall::Write && self.0.load(Ordering::SeqCst);
        if full {
            FaultAction::Fail(io::ErrorKind::StorageFull.into())
        } else {
            FaultAction::Proceed
        }
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

/// Fills a disk when a run starts.
struct Fill(Arc<Filling>);

impl Listener for Fill {
    fn event(&mut self, _: u64, event: &Event) {
        if matches!(event, Event::RunStarted { .. }) {
            self.0.0.store(true, Ordering::SeqCst);
        }
    }
}

/// A disk that is mounted read-only.
struct ReadOnly;

impl Hook for ReadOnly {
    fn before(&self, _: Syscall, _: &Path) -> FaultAction {
        FaultAction::Fail(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

const READ: &str = "web = read.webdataset(\"web.tar\")\nvocab = learn.wordpiece(web)\n";

#[test]
fn a_full_disk_fails_the_stage_and_finished_stages_are_kept() {
    let world = World::new();
    world.shard_of("web.tar", &scenes("web", 3));
    world.run_with(
        READ,
        &RunOptions {
            targets: vec!["web".to_owned()],
            ..RunOptions::default()
        },
    );
    let disk = Arc::new(Filling::default());
    let engine = world
        .engine()
        .with_disk(Disk::with_hook(Arc::clone(&disk) as Arc<dyn Hook>));
    let mut fill = Fill(disk);
    let summary = engine
        .run(
            &world.workflow(READ),
            &RunOptions::default(),
            &mut [&mut fill],
        )
        .unwrap();
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = end(&summary, "vocab").error.clone().unwrap();
    let cache = world.config.cache.display().to_string();
    assert!(
        error.what.starts_with(&format!("could not write {cache}/")),
        "{}",
        error.what
    );
    assert!(error.what.ends_with(": no storage space"), "{}", error.what);
    assert_eq!(
        error.help,
        "the disk is full: free some space and run again; finished results are kept"
    );
    let again = world.done(READ);
    assert_eq!(
        (end(&again, "web").status, end(&again, "vocab").status),
        (Status::Reused, Status::Ran)
    );
}

#[test]
fn a_read_only_cache_is_reported() {
    let world = World::new();
    world.shard_of("web.tar", &scenes("web", 3));
    let engine = world
        .engine()
        .with_disk(Disk::with_hook(Arc::new(ReadOnly)));
    let error = engine
        .run(&world.workflow(READ), &RunOptions::default(), &mut [])
        .unwrap_err();
    let cache = world.config.cache.display();
    assert_eq!(
        format!("{error}\n{}", error.help()),
        format!(
            "could not create the folder {cache}: read-only filesystem or storage medium\n\
             make the folder writable, or name another cache folder with --cache"
        )
    );
}

#[test]
fn a_caption_of_unknown_words_is_rejected_by_the_training() {
    let world = World::new();
    let mut samples = scenes("web", 9);
    samples[3].text = "日本 語".to_owned();
    world.shard_of("web.tar", &samples);
    world.shard_of("human.tar", &scenes("human", 9));
    let summary = world.done(
        "web = read.webdataset(\"web.tar\")\nvocab = \
         learn.wordpiece(read.webdataset(\"human.tar\"))\n\
         net = med(vision = vit.tiny(image = 16), text = bert.tiny(), vocab, embed = 16)\n\
         base = pretrain(net, web, epochs = 1, batch = 4, warmup = 1, queue = 8, seed = 1)\n",
    );
    let list = world.rejected(&summary, "base");
    assert_eq!(
        list,
        [(
            "web-000003".to_owned(),
            "no word of the text is in the vocabulary".to_owned()
        )]
    );
}
