//! A small workflow with everything that writes: stages, a composed op, a map, training with
//! checkpoints, a result moved in as a file, and exports.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::{Engine, Outcome, RunOptions, Summary, VerifyLevel, VerifyReport};

use crate::world::World;

pub(crate) const SCENE: &str = "\
a = text(\"alpha\")
b = upper(a)
c = pair(b)
p = parcel(b)
f = file(\"notes.txt\")
j = join(a, c, f, p)
l = lines(\"lines.txt\")
s = shout(l, copies = 2)
w = show(s)
@checkpoint(every = 2) t = train(j, steps = 7)
export w as txt \"out/w.txt\"
export t as txt \"out/t.txt\"
";

/// A disk that skips syncs: fast, and correct as long as the power stays on.
pub(crate) struct Unsynced;

impl Hook for Unsynced {
    fn before(&self, _: Syscall, _: &Path) -> FaultAction {
        FaultAction::SkipSync
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

pub(crate) fn unsynced() -> Disk {
    Disk::with_hook(Arc::new(Unsynced))
}

/// A world with the files that the scene reads.
pub(crate) fn world() -> World {
    let world = World::in_memory();
    fill(&world);
    world
}

pub(crate) fn fill(world: &World) {
    world.write("notes.txt", "some notes");
    let lines: Vec<String> = (0..9).map(|number| format!("line {number}")).collect();
    world.write("lines.txt", &format!("{}\nbad line\n", lines.join("\n")));
}

/// Makes the files that the scene reads a minute old: digests of files that were just written are
/// not stored.
pub(crate) fn age(world: &World) {
    for name in ["notes.txt", "lines.txt"] {
        let file = File::options()
            .write(true)
            .open(world.folder.path().join(name))
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60))
            .unwrap();
    }
}

/// All results of a run of the scene, by stage, and its exports.
pub(crate) fn outcome(world: &World, summary: &Summary) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = summary
        .results
        .iter()
        .map(|(stage, result)| (stage.to_string(), result.output.to_string()))
        .collect();
    for name in ["out/w.txt", "out/t.txt"] {
        found.insert(name.to_owned(), world.read(name));
    }
    found
}

/// The outcome of a run without faults.
pub(crate) fn undisturbed() -> BTreeMap<String, String> {
    let world = world();
    let summary = run(&world, unsynced());
    assert_eq!(summary.outcome, Outcome::Done, "{:#?}", summary.stages);
    outcome(&world, &summary)
}

pub(crate) fn run(world: &World, disk: Disk) -> Summary {
    let engine = world.engine().with_disk(disk);
    engine
        .run(&world.workflow(SCENE), &RunOptions::default(), &mut [])
        .unwrap()
}

pub(crate) fn engine(world: &World) -> Engine {
    world.engine().with_disk(unsynced())
}

pub(crate) fn verify(world: &World) -> VerifyReport {
    engine(world)
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap()
}

/// Asserts that nothing in the cache is corrupt, and that a run gives the expected outcome.
pub(crate) fn assert_valid(world: &World, expected: &BTreeMap<String, String>, what: &str) {
    let report = verify(world);
    assert_eq!(report.corruptions, [], "{what}");
    assert_eq!(
        report.unknown_files,
        [""; 0].map(std::path::PathBuf::from),
        "{what}"
    );
    let summary = run(world, unsynced());
    assert_eq!(
        summary.outcome,
        Outcome::Done,
        "{what}: {:#?}",
        summary.stages
    );
    assert_eq!(outcome(world, &summary), *expected, "{what}");
    let left: Vec<_> = std::fs::read_dir(world.config.cache.join("tmp"))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{what}: {left:?}");
    let mut out: Vec<_> = std::fs::read_dir(world.folder.path().join("out"))
        .unwrap()
        .flatten()
        .collect();
    out.sort_by_key(std::fs::DirEntry::file_name);
    let out: Vec<_> = out.iter().map(std::fs::DirEntry::file_name).collect();
    let receipts_and_files = [".t.txt.blip-export", ".w.txt.blip-export", "t.txt", "w.txt"];
    assert_eq!(out, receipts_and_files, "{what}");
}
