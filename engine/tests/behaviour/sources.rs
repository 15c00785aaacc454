//! A changed file of the user is always detected: when clocks or times are set back, with empty
//! files, and with files that change while they are read.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use blip_engine::{Engine, Event, Files, Listener, Outcome, RunOptions, Status};

use crate::scene;
use crate::world::{World, counts, end, status};

const READ: &str = "a = file(\"a.txt\")\nb = upper(a)\n";

fn set_modified(world: &World, time: SystemTime) {
    let file = File::options()
        .write(true)
        .open(world.folder.path().join("a.txt"))
        .unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn other_content_of_the_same_length_and_time_is_detected() {
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    // An hour ago; and an hour ahead, as after the clock was set back.
    for time in [now - hour, now + hour] {
        let world = World::new();
        world.write("a.txt", "hello");
        set_modified(&world, time);
        world.run(READ);
        assert_eq!(world.calls_of(READ), counts([]));
        world.write("a.txt", "world");
        set_modified(&world, time);
        assert_eq!(world.calls_of(READ), counts([("file", 1), ("upper", 1)]));
        // Replaced by a rename, as editors and rsync do.
        world.write("b.txt", "there");
        fs::rename(
            world.folder.path().join("b.txt"),
            world.folder.path().join("a.txt"),
        )
        .unwrap();
        set_modified(&world, time);
        let summary = world.run(READ);
        assert_eq!(world.text(&summary, "b"), "THERE");
    }
}

#[test]
fn after_a_clock_was_set_back_results_are_reused_and_changes_detected() {
    let world = World::new();
    world.write("a.txt", "hello");
    world.run(READ);
    // All files of the cache are from the future now.
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    for path in crate::corruption::files(&world.config.cache) {
        File::open(path).unwrap().set_modified(ahead).unwrap();
    }
    assert_eq!(world.calls_of(READ), counts([]));
    world.write("a.txt", "world");
    assert_eq!(world.calls_of(READ), counts([("file", 1), ("upper", 1)]));
    assert_eq!(scene::verify(&world).corruptions, []);
}

#[test]
fn an_empty_file_is_valid_input() {
    let world = World::new();
    world.write("a.txt", "");
    let summary = world.run(READ);
    assert_eq!(
        (summary.outcome, world.text(&summary, "b")),
        (Outcome::Done, String::new())
    );
    assert_eq!(
        world.calls_of(READ),
        counts([]),
        "its empty result is cached"
    );
    assert_eq!(scene::verify(&world).corruptions, []);
    world.write("a.txt", "hello");
    let summary = world.run(READ);
    assert_eq!(world.text(&summary, "b"), "HELLO");
    world.write("a.txt", "");
    assert_eq!(status(&world.run(READ), "b"), Status::Reused);
}

/// Writes to the file when the stage that reads it starts.
struct ConcurrentWriter(PathBuf);

impl Listener for ConcurrentWriter {
    fn event(&mut self, _: u64, event: &Event) {
        if matches!(event, Event::StageStarted { stage, .. } if **stage == *"a") {
            fs::write(&self.0, "HELLO").unwrap();
        }
    }
}

#[test]
fn a_file_that_changes_while_a_stage_reads_it_fails_the_stage() {
    let world = World::new();
    world.write("a.txt", "hello");
    let path = world.folder.path().join("a.txt");
    let engine: Engine = world.engine();
    let mut writer = ConcurrentWriter(path.clone());
    let summary = engine
        .run(
            &world.workflow(READ),
            &RunOptions::default(),
            &mut [&mut writer],
        )
        .unwrap();
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(
        error.what,
        format!("{} changed while `a` was reading it", path.display())
    );
    assert_eq!(error.help, "run again when nothing writes to it any more");
    let summary = world.run("a = file(\"a.txt\")\n");
    assert_eq!(
        (status(&summary, "a"), world.text(&summary, "a")),
        (Status::Ran, "HELLO".to_owned())
    );
}

#[test]
fn a_file_that_grows_while_it_is_digested_is_refused() {
    let world = World::in_memory();
    let path = world.folder.path().join("a.txt");
    fs::write(&path, vec![7; 16 << 20]).unwrap();
    let done = AtomicBool::new(false);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&path).unwrap();
            while !done.load(Ordering::SeqCst) {
                file.write_all(b"more").unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        // The writer may sleep while the file is read once, but not every time.
        let error = (0..50).find_map(|_| Files::new(world.folder.path(), None).file("a.txt").err());
        done.store(true, Ordering::SeqCst);
        error.unwrap()
    });
    assert_eq!(
        error.to_string(),
        format!("{} changed while it was read", path.display())
    );
    assert_eq!(error.help(), "run again when nothing writes to it any more");
}

#[test]
fn patterns_leave_out_files_of_programs() {
    let world = World::new();
    for name in [
        "a.txt",
        "b.txt",
        ".a.txt.blip-export",
        ".DS_Store",
        "._a.txt",
    ] {
        world.write(name, "text");
    }
    let files = Files::new(world.folder.path(), None);
    let names = |pattern: &str| -> Vec<String> {
        let found = files.glob(pattern).unwrap();
        found.into_iter().map(|file| file.name).collect()
    };
    assert_eq!(names("*"), ["a.txt", "b.txt"]);
    assert_eq!(names("?.txt"), ["a.txt", "b.txt"]);
    assert_eq!(
        names(".D*"),
        [".DS_Store"],
        "unless the pattern asks for them"
    );
}
