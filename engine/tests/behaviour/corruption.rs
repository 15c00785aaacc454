//! Corrupt files are detected, moved away and recomputed, and nothing else is.

mod sled_index;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blip_engine::{CorruptionKind, Outcome, RunOptions, Status};

use crate::scene::{self, SCENE};
use crate::training::StopAt;
use crate::world::World;

/// A way to corrupt a file.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Damage {
    Flipped,
    Truncated,
    Emptied,
    Deleted,
    Folder,
    /// Edited and then made read-only, so that its permissions look right.
    Edited,
}

const DAMAGES: [Damage; 6] = [
    Damage::Flipped,
    Damage::Truncated,
    Damage::Emptied,
    Damage::Deleted,
    Damage::Folder,
    Damage::Edited,
];

pub(crate) fn corrupt(path: &Path, damage: Damage) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    match damage {
        Damage::Flipped => {
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        }
        Damage::Truncated => fs::write(path, &bytes[..middle]).unwrap(),
        Damage::Emptied => fs::write(path, "").unwrap(),
        Damage::Deleted => fs::remove_file(path).unwrap(),
        Damage::Folder => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        Damage::Edited => {
            bytes.push(b'\n');
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
        }
    }
}

/// All files below a folder of the cache.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()))
        } else {
            found.push(entry.path())
        }
    }
    found.sort();
    found
}

fn ran(stages: &[Arc<blip_engine::StageEnd>]) -> BTreeSet<&str> {
    stages
        .iter()
        .filter(|end| end.status == Status::Ran)
        .map(|end| &*end.stage)
        .collect()
}

/// Corrupts every file of a folder in every way. Each time only this file is reported, and only the
/// stages that need it run again.
fn check_every_file_of(folder: &str, deletion_is_corruption: bool) {
    let world = scene::world();
    let expected = scene::undisturbed();
    scene::run(&world, scene::unsynced());
    world.calls.take();
    let all = files(&world.config.cache.join(folder));
    assert!(!all.is_empty());
    for path in all {
        let bytes = fs::read(&path).unwrap();
        for damage in DAMAGES {
            let what = format!("{damage:?} {}", path.display());
            // A run does not restore a group whose units it does not look up.
            fs::write(&path, &bytes).unwrap();
            corrupt(&path, damage);
            let report = scene::verify(&world);
            if damage == Damage::Deleted && !deletion_is_corruption {
                assert_eq!(report.corruptions, [], "{what}");
            } else {
                let [found] = report.corruptions.as_slice() else {
                    panic!("{what}: {:#?}", report.corruptions)
                };
                assert_eq!(found.path, path, "{what}");
                match (&found.kind, damage) {
                    (CorruptionKind::Missing, Damage::Deleted) => assert_eq!(found.moved_to, None),
                    (_, Damage::Deleted) => panic!("{what}: {found:?}"),
                    (kind, Damage::Folder) => assert_eq!(*kind, CorruptionKind::NotAFile, "{what}"),
                    _ => assert!(
                        found.moved_to.as_ref().is_some_and(|path| path.exists()),
                        "{what}"
                    ),
                }
                assert!(!path.exists(), "{what}");
            }
            assert_eq!(
                scene::verify(&world).corruptions.len(),
                usize::from(is_still_missing(&report)),
                "{what}: reported once"
            );
            let affected = report.affected();
            let summary = scene::run(&world, scene::unsynced());
            assert_eq!(summary.outcome, Outcome::Done, "{what}");
            assert_eq!(scene::outcome(&world, &summary), expected, "{what}");
            let names: BTreeSet<&str> = affected
                .iter()
                .map(|affected| affected.stage.as_str())
                .collect();
            let ran = ran(&summary.stages);
            // Of stages with equal results, one runs for all.
            if damage != Damage::Deleted || deletion_is_corruption {
                assert!(
                    ran.is_subset(&names) && ran.is_empty() == names.is_empty(),
                    "{what}: {ran:?} of {names:?}"
                );
            }
            assert_eq!(
                world.calls.take().get("unit"),
                None,
                "{what}: results of units are separate files"
            );
            assert_eq!(scene::verify(&world).corruptions, [], "{what}");
        }
    }
    let moved = fs::read_dir(world.config.cache.join("corrupt"))
        .unwrap()
        .count();
    assert!(moved >= 5, "nothing was deleted: {moved}");
}

/// An object that a record refers to is reported as missing until it is recomputed.
fn is_still_missing(report: &blip_engine::VerifyReport) -> bool {
    report.corruptions.iter().any(|corruption| {
        let mut parts = corruption.path.iter();
        !corruption.affected.is_empty() && parts.any(|part| part == "objects")
    })
}

#[test]
fn objects() {
    check_every_file_of("objects", true);
}

#[test]
fn records() {
    check_every_file_of("results", false);
}

#[test]
fn groups_of_results_of_units() {
    check_every_file_of("units", false);
}

#[test]
fn ledgers() {
    check_every_file_of("ledgers", false);
}

#[test]
fn checkpoints() {
    const TRAIN: &str =
        "@checkpoint(every = 10) t = train(text(\"data\"), steps = 100, pause = 2)\n";
    let clean = World::in_memory();
    let undisturbed = clean.run(TRAIN);
    for damage in DAMAGES {
        for name in ["state", "manifest.json"] {
            let world = World::in_memory();
            let options = RunOptions::default();
            let mut stop = StopAt(50, options.stop.clone());
            let summary = world
                .engine()
                .run(&world.workflow(TRAIN), &options, &mut [&mut stop])
                .unwrap();
            assert_eq!(summary.outcome, Outcome::Interrupted);
            let taken = files(&world.config.cache.join("checkpoints"));
            let newest = taken.iter().rfind(|path| path.ends_with(name)).unwrap();
            corrupt(newest, damage);
            let report = scene::verify(&world);
            let what = format!("{damage:?} {name}");
            let [found] = report.corruptions.as_slice() else {
                panic!("{what}: {:#?}", report.corruptions)
            };
            assert_eq!(Some(found.path.as_path()), newest.parent(), "{what}");
            assert!(
                matches!(found.kind, CorruptionKind::Checkpoint(_)),
                "{what}"
            );
            world.calls.take();
            let summary = world.run(TRAIN);
            let steps = world.calls.take().get("step").copied().unwrap_or(0);
            assert!(
                (1..=90).contains(&steps),
                "{what}: it resumes from the previous one: {steps}"
            );
            assert_eq!(
                world.text(&summary, "t"),
                clean.text(&undisturbed, "t"),
                "{what}"
            );
        }
    }
}

#[test]
fn repair_recomputes_affected_stages_and_nothing_else() {
    let world = scene::world();
    let summary = scene::run(&world, scene::unsynced());
    world.calls.take();
    let output = summary.results["t"].output;
    let path = world.object_path(&output);
    corrupt(&path, Damage::Flipped);
    let report = scene::verify(&world);
    let [found] = report.corruptions.as_slice() else {
        panic!("{:#?}", report.corruptions)
    };
    let affected: Vec<&str> = found
        .affected
        .iter()
        .map(|affected| affected.stage.as_str())
        .collect();
    assert_eq!(affected, ["t"]);
    assert_eq!(found.kind.to_string(), "digest mismatch");
    let engine = scene::engine(&world);
    let other = world.workflow("z = text(\"z\")\n");
    let repaired = engine
        .repair(&report, &other, &RunOptions::default(), &mut [])
        .unwrap();
    assert_eq!(repaired.restored, []);
    assert_eq!(repaired.failed[0].1, "the workflow has no such stage");
    let repaired = engine
        .repair(
            &report,
            &world.workflow(SCENE),
            &RunOptions::default(),
            &mut [],
        )
        .unwrap();
    assert_eq!(
        (repaired.restored, repaired.failed),
        (report.affected(), Vec::new())
    );
    assert!(world.calls.take().keys().eq(["step"]), "only training ran");
    let changed = world.workflow(&SCENE.replace("alpha", "beta"));
    corrupt(&path, Damage::Deleted);
    let report = scene::verify(&world);
    let repaired = engine
        .repair(&report, &changed, &RunOptions::default(), &mut [])
        .unwrap();
    assert_eq!(
        repaired.failed[0].1,
        "the workflow, its params or its files have changed since"
    );
}

#[test]
fn all_consumers_of_a_corrupt_result_wait_until_it_is_recomputed() {
    for cpu in 1..4 {
        let mut world = World::in_memory();
        world.config.resources.cpu = cpu;
        let base = "a = text(\"hello\")\nb = upper(a)\n";
        let object = world.run(base).results["b"].output;
        corrupt(&world.object_path(&object), Damage::Flipped);
        let more = "c = join(b, a)\nd = join(b, b)\ne = join(b, a, a)\nf = join(a, b)\n\
                    g = length(b)\nh = length(c)\n";
        let summary = world.run(&format!("{base}{more}"));
        assert_eq!(summary.outcome, Outcome::Done, "{cpu}");
        let texts = ["b", "c", "d", "e", "f", "g", "h"].map(|stage| world.text(&summary, stage));
        assert_eq!(
            texts,
            [
                "HELLO",
                "HELLOhello",
                "HELLOHELLO",
                "HELLOhellohello",
                "helloHELLO",
                "5",
                "10"
            ],
            "{cpu}"
        );
        // Once; or twice, when a consumer that read the corrupt bytes moves the new object away
        // before it notices, and back.
        assert!(world.calls.take()["upper"] <= 2, "{cpu}");
    }
}

#[test]
fn a_stage_whose_input_is_recomputed_differently_while_it_waits_has_another_key() {
    let world = World::in_memory();
    let base = "a = counted()\n";
    let first = world.run_with(base, &RunOptions::default()).0;
    let object = first.results["a"].output;
    corrupt(&world.object_path(&object), Damage::Flipped);
    // While `late` waits for its second attempt, `b` detects that `a` is corrupt.
    let text = format!("{base}@retries(1) late = flaky(1, a)\nb = upper(a)\n");
    let (summary, _) = world.run_with(&text, &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Done);
    assert_ne!(summary.results["a"].output, object);
    assert_eq!(scene::verify(&world).corruptions, []);
    let again = world.run_with(&text, &RunOptions::default()).0;
    assert!(
        again.stages.iter().all(|end| end.status == Status::Reused),
        "{:#?}",
        again.stages
    );
}

#[test]
fn a_stage_replaces_a_corrupt_object_that_it_writes() {
    let world = World::in_memory();
    let summary = world.run("a = text(\"HELLO\")\n");
    corrupt(
        &world.object_path(&summary.results["a"].output),
        Damage::Flipped,
    );
    let summary = world.run("b = upper(text(\"hello\"))\n");
    assert_eq!(world.text(&summary, "b"), "HELLO");
    assert_eq!(scene::verify(&world).corruptions, []);
}

/// A corrupt version file is replaced, and one of another version is refused.
#[test]
fn versions() {
    let world = World::in_memory();
    world.run("a = text(\"a\")\n");
    let version = world.config.cache.join("version");
    for damage in [Damage::Emptied, Damage::Deleted, Damage::Folder] {
        corrupt(&version, damage);
        assert_eq!(
            world.run("a = text(\"a\")\n").stages[0].status,
            Status::Reused,
            "{damage:?}"
        );
    }
    fs::write(&version, "7").unwrap();
    let error = world
        .engine()
        .run(
            &world.workflow("a = text(\"a\")\n"),
            &RunOptions::default(),
            &mut [],
        )
        .unwrap_err();
    let cache = world.config.cache.display();
    assert_eq!(
        error.to_string(),
        format!("the cache {cache} has layout 7, this program knows layout 1")
    );
    assert_eq!(
        error.help(),
        "use the program that wrote it, or name another folder with --cache"
    );
}

#[test]
fn a_record_under_the_name_of_another_key_is_a_miss() {
    let world = World::new();
    let first = world.run("a = text(\"one\")\n").results["a"].key;
    let second = world.run("a = text(\"two\")\n").results["a"].key;
    fs::copy(world.record_path(&first), world.record_path(&second)).unwrap();
    fs::remove_dir_all(world.config.cache.join("ledgers")).unwrap();
    let summary = world.run("a = text(\"two\")\n");
    assert_eq!(world.text(&summary, "a"), "two");
    assert_eq!(summary.stages[0].status, Status::Ran);
    assert_eq!(files(&world.config.cache.join("corrupt")).len(), 1);
}
