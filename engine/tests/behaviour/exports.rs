//! Exports are written when they are not there as they were, and never over what somebody else wrote.

use blip_engine::{Event, Outcome, RunOptions};

use crate::world::{World, counts};

const EXPORT: &str = "a = text(\"hello\")\nb = upper(a)\nexport b as txt \"out/b.txt\"\n";

#[test]
fn written_once_and_again_only_when_needed() {
    let world = World::new();
    world.run(EXPORT);
    assert_eq!(world.read("out/b.txt"), "HELLO");
    assert_eq!(world.calls_of(EXPORT), counts([]), "it is there");
    world.write("out/b.txt", "somebody's");
    assert_eq!(world.calls_of(EXPORT), counts([("export", 1)]), "its bytes were changed");
    assert_eq!(world.read("out/b.txt"), "HELLO");
    std::fs::remove_file(world.folder.path().join("out/b.txt")).unwrap();
    assert_eq!(world.calls_of(EXPORT), counts([("export", 1)]), "it was removed");
    let changed = EXPORT.replace("hello", "world");
    assert_eq!(world.calls_of(&changed), counts([("text", 1), ("upper", 1), ("export", 1)]));
    assert_eq!(world.read("out/b.txt"), "WORLD");
}

#[test]
fn a_file_of_somebody_else_stays() {
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
    assert_eq!(error.what, format!("{} exists and was not written by `export b`", path.display()));
    assert_eq!(error.help, "move it away, or export to another path");
}
