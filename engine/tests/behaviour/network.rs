//! A cache on a network file system: no sled, one line about it, and nothing else is different.

use std::path::Path;
use std::sync::Arc;

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::cache::file_system::FileSystem;
use blip_engine::{Event, IndexKind, Outcome, RunOptions};

use crate::world::{Heard, World, counts};

const MAP: &str = "l = lines(\"lines.txt\")\ns = shout(l)\nw = show(s)\n";

/// A disk of which statfs would say this.
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

/// Runs on such a disk; gives the warnings.
fn run(world: &World, file_system: FileSystem) -> Vec<String> {
    let mut heard = Heard::default();
    let engine = world
        .engine()
        .with_disk(Disk::with_hook(Arc::new(Mounted(file_system))));
    let summary = engine
        .run(
            &world.workflow(MAP),
            &RunOptions::default(),
            &mut [&mut heard],
        )
        .unwrap();
    assert_eq!(summary.outcome, Outcome::Done, "{:#?}", summary.stages);
    let warning = |event| {
        if let Event::Warning { text, .. } = event {
            Some(text)
        } else {
            None
        }
    };
    heard.0.into_iter().filter_map(warning).collect()
}

#[test]
fn sled_is_not_opened_and_every_run_says_so_once() {
    let mut world = World::in_memory();
    world.config.index = IndexKind::Sled;
    world.write("lines.txt", "one\ntwo\n");
    for name in ["NFS", "SMB2", "Lustre", "FUSE"] {
        let said = format!(
            "the cache is on {name}, where sled is not safe: the index is kept in memory and read anew by every run; a \
             folder on a local disk (--cache) starts faster, and --index none says nothing"
        );
        assert_eq!(run(&world, FileSystem::Network(name)), [said]);
        assert!(!world.config.cache.join("index").exists(), "{name}");
    }
    world.calls.take();
    world.write("lines.txt", "one\ntwo\nthree\n");
    run(&world, FileSystem::Network("NFS"));
    let warm_start = counts([("lines", 1), ("load", 1), ("unit", 1), ("show", 1)]);
    assert_eq!(
        world.calls.take(),
        warm_start,
        "what is known is found without an index on the disk"
    );
}

#[test]
fn who_wants_no_index_hears_nothing_and_a_local_disk_has_one() {
    let mut world = World::in_memory();
    world.write("lines.txt", "one\ntwo\n");
    assert_eq!(run(&world, FileSystem::Network("NFS")), [""; 0]);
    world.config.index = IndexKind::Sled;
    run(&world, FileSystem::Local);
    assert!(world.config.cache.join("index").is_dir());
}
