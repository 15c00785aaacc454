//! Random graphs and random edits: an incremental run gives the bytes of a clean one, and runs
//! nothing that is cached.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::space::GcOptions;
use blip_engine::{Op, Outcome, RunOptions, Status, VerifyLevel};
use proptest::prelude::*;

use crate::scene;
use crate::world::World;

/// A stage: its op, and two numbers that select its inputs or its text.
type Node = (u8, u8, u8);

#[derive(Clone, Debug)]
enum Edit {
    /// A stage is replaced.
    Stage(u8, Node),
    /// The input file changes.
    Lines(u8),
    /// The version of an op changes.
    Version(u8),
    /// A file of the cache is deleted.
    Delete(u16),
    /// A file of the cache is corrupted, and the cache verified.
    Corrupt(u16),
    /// A run fails since all calls to the disk fail, after this many.
    Fault(u8),
    /// Garbage is collected, except for the results of the last run.
    GcOptions,
}

/// The workflow's text. Texts are `t0`, `t1` ..., datasets `l0`, `l1` ...
fn text(nodes: &[Node]) -> String {
    let mut written = "t0 = text(\"start\")\nl0 = lines(\"lines.txt\")\n".to_owned();
    let (mut texts, mut sets) = (1, 1);
    for (kind, first, second) in nodes {
        let (one, two, set) = (
            usize::from(*first) % texts,
            usize::from(*second) % texts,
            usize::from(*first) % sets,
        );
        let (is_text, call) = match kind % 8 {
            0 => (true, format!("text(\"{first}\")")),
            1 => (true, format!("upper(t{one})")),
            2 => (true, format!("length(t{one})")),
            3 => (true, format!("pair(t{one})")),
            4 => (true, format!("join(t{one}, t{two})")),
            5 => (false, format!("shout(l{set}, copies = {})", 1 + second % 3)),
            6 => (true, format!("show(l{set})")),
            _ => (true, format!("parcel(t{one})")),
        };
        let (name, number) = if is_text {
            ('t', &mut texts)
        } else {
            ('l', &mut sets)
        };
        writeln!(written, "{name}{number} = {call}").unwrap();
        *number += 1;
    }
    written
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found)
        } else {
            found.push(path)
        }
    }
}

/// A file of the cache, if there is one. Its version file is tested elsewhere.
fn pick(world: &World, number: u16) -> Option<PathBuf> {
    let mut found = Vec::new();
    for folder in ["objects", "results", "units", "files", "ledgers", "maps"] {
        files(&world.config.cache.join(folder), &mut found);
    }
    (!found.is_empty()).then(|| found.swap_remove(usize::from(number) % found.len()))
}

/// Fails all calls from one on.
struct Failing(AtomicI64);

impl Hook for Failing {
    fn before(&self, _: Syscall, _: &Path) -> FaultAction {
        if self.0.fetch_sub(1, Ordering::SeqCst) > 0 {
            FaultAction::SkipSync
        } else {
            FaultAction::Fail(io::Error::from_raw_os_error(5))
        }
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

fn apply(world: &mut World, nodes: &mut [Node], edit: &Edit) {
    match edit {
        Edit::Stage(place, node) => {
            let place = usize::from(*place) % nodes.len();
            nodes[place] = *node;
        }
        Edit::Lines(number) => write_lines(world, *number),
        Edit::Version(number) => {
            let name = ["upper", "join", "shout", "show"][usize::from(*number) % 4];
            let op = Arc::clone(world.ops.op(name).unwrap());
            world.ops = world.ops.clone().with(Op {
                version: op.version + 1,
                ..Op::clone(&op)
            });
        }
        Edit::Delete(number) => {
            if let Some(path) = pick(world, *number) {
                fs::remove_file(path).unwrap();
            }
        }
        Edit::Corrupt(number) => {
            if let Some(path) = pick(world, *number) {
                fs::write(path, "corrupt").unwrap();
                scene::engine(world)
                    .verify(VerifyLevel::Full, &RunOptions::default())
                    .unwrap();
            }
        }
        Edit::Fault(calls) => {
            let disk = Disk::with_hook(Arc::new(Failing(i64::from(*calls).into())));
            // It may succeed or fail.
            drop(world.engine().with_disk(disk).run(
                &world.workflow(&text(nodes)),
                &RunOptions::default(),
                &mut [],
            ));
        }
        Edit::GcOptions => {
            let options = GcOptions {
                keep_runs: 1,
                min_age: None,
                max_bytes: None,
                dry_run: false,
            };
            scene::engine(world).collect(&options, true).unwrap();
        }
    }
}

fn write_lines(world: &World, number: u8) {
    let line = |place: u8| {
        format!(
            "line {}",
            if place < 4 {
                place
            } else {
                place.wrapping_mul(number)
            }
        )
    };
    let lines: BTreeSet<String> = (0..9).map(line).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    world.write("lines.txt", &lines.join("\n"));
}

/// Runs, and compares the run with a clean one.
fn check(world: &World, nodes: &[Node], what: &str) {
    let workflow = world.workflow(&text(nodes));
    let reader = world.engine().reader();
    let mut records = Vec::new();
    files(&world.config.cache.join("results"), &mut records);
    let keys = records
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok());
    let cached: BTreeSet<blip_engine::Digest> = keys.filter(|key| reader.is_whole(key)).collect();
    let summary = scene::engine(world)
        .run(&workflow, &RunOptions::default(), &mut [])
        .unwrap();
    assert_eq!(
        summary.outcome,
        Outcome::Done,
        "{what}: {:#?}",
        summary.stages
    );
    for end in summary
        .stages
        .iter()
        .filter(|end| end.status == Status::Ran)
    {
        assert!(
            !cached.contains(&end.key.unwrap()),
            "{what}: `{}` ran although its key was cached",
            end.stage
        );
    }
    let mut clean = World::in_memory();
    clean.ops = world.ops.clone();
    clean.write("lines.txt", &world.read("lines.txt"));
    let expected = scene::engine(&clean)
        .run(
            &clean.workflow(&text(nodes)),
            &RunOptions::default(),
            &mut [],
        )
        .unwrap();
    assert_eq!(expected.outcome, Outcome::Done, "{what}");
    assert!(summary.results.keys().eq(expected.results.keys()), "{what}");
    for (stage, result) in &expected.results {
        let bytes = |world: &World, digest| world.engine().reader().object(digest).unwrap();
        assert_eq!(
            bytes(world, &summary.results[stage].output),
            bytes(&clean, &result.output),
            "{what}: {stage}"
        );
    }
}

fn edits() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (any::<u8>(), any::<Node>()).prop_map(|(place, node)| Edit::Stage(place, node)),
        2 => any::<u8>().prop_map(Edit::Lines),
        1 => any::<u8>().prop_map(Edit::Version),
        2 => any::<u16>().prop_map(Edit::Delete),
        2 => any::<u16>().prop_map(Edit::Corrupt),
        2 => any::<u8>().prop_map(Edit::Fault),
        1 => Just(Edit::GcOptions),
    ]
}

fn cases() -> u32 {
    if std::env::var_os("BLIP_SOAK").is_some() {
        1000
    } else {
        24
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_incremental_run_gives_the_bytes_of_a_clean_one(
        nodes in proptest::collection::vec(any::<Node>(), 1..10),
        edits in proptest::collection::vec(edits(), 1..6),
    ) {
        let mut world = World::in_memory();
        let mut nodes = nodes;
        write_lines(&world, 3);
        check(&world, &nodes, "the first run");
        for (number, edit) in edits.iter().enumerate() {
            apply(&mut world, &mut nodes, edit);
            check(&world, &nodes, &format!("edit {number}: {edit:?}\n{}", text(&nodes)));
        }
    }
}
