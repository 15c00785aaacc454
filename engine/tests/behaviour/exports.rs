//! Exports are written when they have changed, and never over files that blip did not write.

use blip_engine::{Event, Outcome, RunOptions};

use crate::world::{World, counts};

const EXPORT: &str = "a = text(\"hello\")\nb = upper(a)\nexport b as txt \"out/b.txt\"\n";

#[test]
fn written_once_and_again_only_when_needed() {
    let world = World::new();
    world.run(EXPORT);
    assert_eq!(world.read("out/b.txt"), "HELLO");
    assert_eq!(world.calls_of(EXPORT), counts([]), "it is current");
    world.write("out/b.txt", "edited");
    assert_eq!(
        world.calls_of(EXPORT),
        counts([("export", 1)]),
        "its bytes were changed"
    );
    assert_eq!(world.read("out/b.txt"), "HELLO");
    std::fs::remove_file(world.folder.path().join("out/b.txt")).unwrap();
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
fn a_file_that_blip_did_not_write_stays() {
    let world = World::new();
    std::fs::create_dir(world.folder.path().join("out")).unwrap();
    world.write("out/b.txt", "precious");
    let (summary, events) = world.run_with(EXPORT, &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Failed);
    assert_eq!(world.read("out/b.txt"), "precious");
    let error = events.iter().find_map(|event| match event {
        Event::ExportFailed { error, .. } => Some(error.clone()),
        _ => None,
    });
    let error = error.unwrap();
    let path = world.folder.path().join("out/b.txt");
    assert_eq!(
        error.what,
        format!(
            "{} exists and was not written by `export b`",
            path.display()
        )
    );
    assert_eq!(error.help, "move it away, or export to another path");
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
    let error = events.into_iter().find_map(|event| match event {
        Event::ExportFailed { error, .. } => Some(error),
        _ => None,
    });
    let error = error.unwrap();
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
