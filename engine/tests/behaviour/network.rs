//! A cache on a network file system: no sled, one warning, and no other difference.

use std::path::Path;
use std::sync::Arc;

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::cache::file_system::FileSystem;
use blip_engine::{IndexKind, Outcome, RunOptions};

use crate::world::{EventRecorder, World, counts, warnings};

const MAP: &str = "l = lines(\"lines.txt\")\ns = shout(l)\nw = show(s)\n";

/// A disk on which `statfs` gives this file system.
struct Mounted(FileSystem);

impl Hook for Mounted {
    fn before(&self, _: Syscall, _: &Path) -> FaultAction {
        FaultAction::SkipSync
    }

    fn after(&self, _: Syscall, _: &Path) {}

    fn file_system(&self) -> Option<FileSystem> {
        Some(self.0)
    }
}

/// Runs on such a disk; returns the warnings.
fn run(world: &World, file_system: FileSystem) -> Vec<String> {
    let mut recorder = EventRecorder::default();
    let engine = world
        .engine()
        .with_disk(Disk::with_hook(Arc::new(Mounted(file_system))));
    let summary = engine
        .run(
            &world.workflow(MAP),
            &RunOptions::default(),
            &mut [&mut recorder],
        )
        .unwrap();
    assert_eq!(summary.outcome, Outcome::Done, "{:#?}", summary.stages);
    warnings(recorder.0)
}

#[test]
fn sled_is_not_opened_and_every_run_warns_once() {
    let mut world = World::in_memory();
    world.config.index = IndexKind::Sled;
    world.write("lines.txt", "one\ntwo\n");
    for name in ["NFS", "SMB2", "Lustre", "FUSE"] {
        let warning = format!(
            "the cache is on {name}, where sled is not safe: the index is kept in memory and \
             rebuilt by every run; a folder on a local disk (--cache) starts faster, and --index \
             none turns this warning off"
        );
        assert_eq!(run(&world, FileSystem::Network(name)), [warning]);
        assert!(!world.config.cache.join("index").exists(), "{name}");
    }
    world.calls.take();
    world.write("lines.txt", "one\ntwo\nthree\n");
    run(&world, FileSystem::Network("NFS"));
    let expected = counts([("lines", 1), ("load", 1), ("unit", 1), ("show", 1)]);
    assert_eq!(
        world.calls.take(),
        expected,
        "cached units are found without an index on the disk"
    );
}

#[test]
fn without_an_index_there_is_no_warning_and_a_local_disk_has_an_index() {
    let mut world = World::in_memory();
    world.write("lines.txt", "one\ntwo\n");
    assert_eq!(run(&world, FileSystem::Network("NFS")), [""; 0]);
    world.config.index = IndexKind::Sled;
    run(&world, FileSystem::Local);
    assert!(world.config.cache.join("index").is_dir());
}
