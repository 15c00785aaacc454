//! Exports are written when they have changed, and never over files that no export wrote.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::event::StageError;
use blip_engine::{Digest, Engine, EngineError, Event, Outcome, RunOptions};

use crate::world::{World, counts};

pub(crate) const EXPORT: &str =
    "a = text(\"hello\")\nb = upper(a)\nexport b as txt \"out/b.txt\"\n";
const HELP: &str = "move it away, choose another path, or replace it with --overwrite";

fn words(text: &str) -> String {
    format!("a = text(\"{text}\")\nexport a as words \"out/words\"\n")
}

/// Runs a workflow that must not begin, and returns the message without the folder's path.
fn refused(world: &World, text: &str) -> String {
    world.calls.take();
    let engine = world.engine();
    let error = engine
        .run(&world.workflow(text), &RunOptions::default(), &mut [])
        .unwrap_err();
    assert!(matches!(error, EngineError::Export(_)), "{error:?}");
    assert_eq!(world.calls.take(), counts([]), "nothing ran");
    assert_eq!(error.help(), HELP);
    let folder = world.folder.path().canonicalize().unwrap();
    error
        .to_string()
        .replace(&format!("{}/", folder.display()), "")
}

/// The error of the export that failed.
pub(crate) fn failed_export(events: Vec<Event>) -> StageError {
    let error = events.into_iter().find_map(|event| match event {
        Event::ExportFailed { error, .. } => Some(error),
        _ => None,
    });
    error.expect("an export failed")
}

pub(crate) fn overwrite() -> RunOptions {
    RunOptions {
        overwrite: true,
        ..RunOptions::default()
    }
}

/// The names of all files below a folder, without receipts.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with(".blip-export") {
                names.push(name);
            }
        }
    }
    names.sort();
    names
}

#[test]
fn written_once_and_again_only_when_needed() {
    let world = World::new();
    world.run(EXPORT);
    assert_eq!(world.read("out/b.txt"), "HELLO");
    assert_eq!(world.calls_of(EXPORT), counts([]), "it is current");
    fs::remove_file(world.folder.path().join("out/b.txt")).unwrap();
    assert_eq!(
        world.calls_of(EXPORT),
        counts([("export", 1)]),
        "it was removed"
    );
    let changed = EXPORT.replace("hello", "world");
    assert_eq!(
        world.calls_of(&changed),
        counts([("text", 1), ("upper", 1), ("export", 1)])
    );
    assert_eq!(world.read("out/b.txt"), "WORLD");
}

#[test]
fn a_file_that_no_export_wrote_stops_the_run_before_anything_ran() {
    let world = World::new();
    fs::create_dir(world.folder.path().join("out")).unwrap();
    world.write("out/b.txt", "precious");
    assert_eq!(
        refused(&world, EXPORT),
        "out/b.txt exists and was not written by blip"
    );
    assert_eq!(world.read("out/b.txt"), "precious");
    let (summary, _) = world.run_with(EXPORT, &overwrite());
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(world.read("out/b.txt"), "HELLO");
    assert_eq!(world.calls_of(EXPORT), counts([]), "now it is its own");
}

#[test]
fn a_file_that_was_changed_since_it_was_exported_is_not_replaced() {
    let world = World::new();
    world.run(EXPORT);
    world.write("out/b.txt", "edited");
    for text in [EXPORT.to_owned(), EXPORT.replace("hello", "world")] {
        assert_eq!(
            refused(&world, &text),
            "out/b.txt was changed after blip wrote it"
        );
        assert_eq!(world.read("out/b.txt"), "edited");
    }
    let (summary, _) = world.run_with(EXPORT, &overwrite());
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(world.read("out/b.txt"), "HELLO");
}

#[test]
fn shards_of_others_are_named_before_the_run() {
    let world = World::new();
    fs::create_dir(world.folder.path().join("out")).unwrap();
    for name in ["s-00000.tar", "s-00012.tar", "s-x.tar", "other.tar"] {
        world.write(&format!("out/{name}"), "theirs");
    }
    let text = "a = text(\"x\")\nexport a as txt \"out/s-{shard:05}.tar\"\n";
    assert_eq!(
        refused(&world, text),
        "out/s-00000.tar exists and was not written by blip; \
         out/s-00012.tar exists and was not written by blip"
    );
}

#[test]
fn a_message_names_five_files_and_counts_the_others() {
    let world = World::new();
    fs::create_dir(world.folder.path().join("out")).unwrap();
    for number in 0..8 {
        world.write(&format!("out/s-{number:05}.tar"), "theirs");
    }
    let text = "a = text(\"x\")\nexport a as txt \"out/s-{shard:05}.tar\"\n";
    let message = refused(&world, text);
    assert!(message.ends_with("out/s-00004.tar exists and was not written by blip; and 3 more"));
}

#[test]
fn files_of_the_user_in_an_exported_folder_are_never_touched() {
    let world = World::new();
    let out = world.folder.path().join("out");
    world.run(&words("apple avocado banana"));
    assert_eq!(
        files(&out),
        ["words/a/apple", "words/a/avocado", "words/b/banana"]
    );
    world.write("out/words/README.md", "mine");
    world.write("out/words/b/notes", "mine too");
    assert_eq!(world.run(&words("apple cherry")).outcome, Outcome::Done);
    assert_eq!(
        files(&out),
        [
            "words/README.md",
            "words/a/apple",
            "words/b/notes",
            "words/c/cherry"
        ],
        "stale files are removed"
    );
    assert_eq!(world.run(&words("banana")).outcome, Outcome::Done);
    assert!(
        !out.join("words/c").exists(),
        "folders that it leaves empty are removed"
    );
    world.write("out/words/b/banana", "edited");
    assert_eq!(
        refused(&world, &words("apple")),
        "out/words/b/banana was changed after blip wrote it",
        "neither is it removed"
    );
}

#[test]
fn a_file_of_the_user_where_a_new_file_of_a_folder_goes_fails_the_export() {
    let world = World::new();
    world.run(&words("apple"));
    world.write("out/words/a/avocado", "mine");
    let (summary, events) = world.run_with(&words("apple avocado"), &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = failed_export(events);
    let path = world
        .folder
        .path()
        .canonicalize()
        .unwrap()
        .join("out/words/a/avocado");
    let what = format!("{} exists and was not written by blip", path.display());
    assert_eq!((error.what, error.help), (what, HELP.to_owned()));
    assert_eq!(world.read("out/words/a/avocado"), "mine");
}

#[test]
fn a_folder_is_never_replaced_by_a_file() {
    let world = World::new();
    fs::create_dir_all(world.folder.path().join("out/b.txt/deep")).unwrap();
    world.write("out/b.txt/deep/file", "precious");
    assert_eq!(
        refused(&world, EXPORT),
        "out/b.txt exists and was not written by blip"
    );
    let (summary, events) = world.run_with(EXPORT, &overwrite());
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = failed_export(events);
    let path = world
        .folder
        .path()
        .canonicalize()
        .unwrap()
        .join("out/b.txt");
    let what = format!("{} exists and is not a file", path.display());
    let help = "move it away, or choose another path";
    assert_eq!((error.what, error.help), (what, help.to_owned()));
    assert_eq!(world.read("out/b.txt/deep/file"), "precious");
}

#[test]
fn two_projects_with_one_cache_and_equal_relative_paths_lose_nothing() {
    let world = World::new();
    let project = |name: &str| {
        let base = world.folder.path().join(name);
        fs::create_dir_all(&base).unwrap();
        let mut config = world.config.clone();
        config.base = base;
        Engine::new(config)
    };
    let projects = [project("one"), project("two")];
    for round in 0..2 {
        for (engine, word) in projects.iter().zip(["apple", "banana"]) {
            let text =
                words(word) + &format!("c = upper(a)\nexport c as txt \"out/{round}.txt\"\n");
            let run = engine.run(&world.workflow(&text), &RunOptions::default(), &mut []);
            assert_eq!(run.unwrap().outcome, Outcome::Done);
        }
    }
    assert_eq!(
        files(&world.folder.path().join("one/out")),
        ["0.txt", "1.txt", "words/a/apple"]
    );
    assert_eq!(
        files(&world.folder.path().join("two/out")),
        ["0.txt", "1.txt", "words/b/banana"]
    );
    assert_eq!(world.read("one/out/0.txt"), "APPLE");
    assert_eq!(world.read("two/out/0.txt"), "BANANA");
}

#[test]
fn a_project_that_moved_or_has_another_name_or_cache_recognizes_its_exports() {
    let world = World::new();
    let old = world.folder.path().join("old");
    fs::create_dir(&old).unwrap();
    let run_at = |base: &Path, cache: &str| {
        let mut config = world.config.clone();
        (config.base, config.cache) = (base.to_path_buf(), world.folder.path().join(cache));
        world.calls.take();
        let run = Engine::new(config).run(&world.workflow(EXPORT), &RunOptions::default(), &mut []);
        assert_eq!(run.unwrap().outcome, Outcome::Done);
        world.calls.take().get("export").copied().unwrap_or(0)
    };
    assert_eq!(run_at(&old, "cache"), 1);
    let link = world.folder.path().join("link");
    std::os::unix::fs::symlink(&old, &link).unwrap();
    assert_eq!(run_at(&link, "cache"), 0, "by a symbolic link");
    assert_eq!(run_at(&old.join("../old/."), "cache"), 0, "by another path");
    let new = world.folder.path().join("new");
    fs::rename(&old, &new).unwrap();
    assert_eq!(run_at(&new, "cache"), 0, "after a move");
    assert_eq!(run_at(&new, "fresh"), 0, "with a fresh cache");
    fs::copy(new.join("out/b.txt"), new.join("copy")).unwrap();
    fs::rename(new.join("copy"), new.join("out/b.txt")).unwrap();
    assert_eq!(
        run_at(&new, "cache"),
        0,
        "with another time and the same bytes"
    );
}

#[test]
fn a_link_to_a_folder_is_followed() {
    let world = World::new();
    let folder = world.folder.path();
    fs::create_dir_all(folder.join("elsewhere/words")).unwrap();
    fs::create_dir(folder.join("out")).unwrap();
    std::os::unix::fs::symlink(folder.join("elsewhere/words"), folder.join("out/words")).unwrap();
    assert_eq!(world.run(&words("apple")).outcome, Outcome::Done);
    assert!(folder.join("out/words").is_symlink());
    assert_eq!(world.read("elsewhere/words/a/apple"), "apple");
}

#[test]
fn what_an_earlier_version_exported_is_known_from_the_cache() {
    let world = World::new();
    let summary = world.run(EXPORT);
    let receipt = world.folder.path().join("out/.b.txt.blip-export");
    let written = fs::read_to_string(&receipt).unwrap();
    let written: serde_json::Value = serde_json::from_str(written.lines().next().unwrap()).unwrap();
    fs::remove_file(&receipt).unwrap();
    // The layout of the version before receipts.
    let file = &written["files"][0];
    let state = serde_json::json!({
        "input": written["input"],
        "files": [{ "path": file["path"], "len": file["len"], "mtime_ns": file["mtime_ns"] }],
        "stale": [],
    });
    let target = world.folder.path().join("out/b.txt");
    let name = Digest::parts(
        "blip/export-place/1",
        &[target.as_os_str().as_encoded_bytes()],
    );
    let exports = world.config.cache.join("exports");
    fs::create_dir_all(&exports).unwrap();
    let line = state.to_string();
    let checksum = Digest::of(line.as_bytes());
    fs::write(
        exports.join(name.to_string()),
        format!("{line}\n{checksum}\n"),
    )
    .unwrap();
    assert_eq!(world.calls_of(EXPORT), counts([]), "it is current");
    assert!(receipt.exists(), "and from now on in a receipt");
    fs::remove_file(&receipt).unwrap();
    world.write("out/b.txt", "edited");
    assert_eq!(
        refused(&world, EXPORT),
        "out/b.txt exists and was not written by blip"
    );
    assert_eq!(summary.outcome, Outcome::Done);
}

/// Fails one call that changes the disk outside of the cache, and all after it.
struct DyingDisk(AtomicI64);

impl Hook for DyingDisk {
    fn before(&self, _: Syscall, path: &Path) -> FaultAction {
        let is_export = path.components().any(|part| part.as_os_str() == "out");
        if is_export && self.0.fetch_sub(1, Ordering::SeqCst) <= 0 {
            FaultAction::Fail(std::io::Error::from_raw_os_error(5))
        } else {
            FaultAction::Proceed
        }
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

#[test]
fn an_export_that_was_interrupted_anywhere_is_finished_by_the_next_run() {
    let (first, second) = (words("apple avocado banana"), words("apple cherry"));
    let mut calls = 0;
    loop {
        let world = World::in_memory();
        world.run(&first);
        world.write("out/words/notes", "mine");
        let disk = Disk::with_hook(Arc::new(DyingDisk(calls.into())));
        let engine = world.engine().with_disk(disk);
        let run = engine.run(&world.workflow(&second), &RunOptions::default(), &mut []);
        let is_whole = run.unwrap().outcome == Outcome::Done;
        assert_eq!(
            world.run(&second).outcome,
            Outcome::Done,
            "after call {calls}"
        );
        assert_eq!(
            files(&world.folder.path().join("out")),
            ["words/a/apple", "words/c/cherry", "words/notes"],
            "after call {calls}"
        );
        if is_whole {
            break;
        }
        calls += 1;
    }
    assert!(calls > 5, "it failed at {calls} calls");
}

#[test]
fn a_corrupt_result_is_detected_before_it_is_exported_and_the_next_run_recomputes_it() {
    let world = World::new();
    let first = world.run(EXPORT);
    let object = first.results.get("b").unwrap().output;
    std::fs::write(world.object_path(&object), "HELLO?").unwrap();
    assert_eq!(world.calls_of(EXPORT), counts([]), "nothing reads it");
    std::fs::remove_file(world.folder.path().join("out/b.txt")).unwrap();
    let (summary, events) = world.run_with(EXPORT, &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = failed_export(events);
    assert_eq!(
        error.what,
        format!("object {} is missing or corrupt", object.short())
    );
    assert_eq!(error.help, "run again to recompute it");
    assert!(!world.folder.path().join("out/b.txt").exists());
    assert_eq!(
        world.calls_of(EXPORT),
        counts([("upper", 1), ("export", 1)])
    );
    assert_eq!(world.read("out/b.txt"), "HELLO");
}
