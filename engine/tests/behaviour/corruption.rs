//! CorruptFolder files are found, moved away and made again, just that far.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blip_engine::cache::disk::Disk;
use blip_engine::cache::{Access, Cache};
use blip_engine::{
    CorruptionKind, Digest, Event, IndexKind, Outcome, RunOptions, Status, VerifyLevel,
};

use crate::scene::{self, SCENE};
use crate::training::StopAt;
use crate::world::World;

/// A way in which a file is damaged.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Way {
    Flipped,
    Truncated,
    Emptied,
    Deleted,
    Folder,
    /// Made read-only and then edited, as people do to be safe and then are not.
    Edited,
}

const WAYS: [Way; 6] = [
    Way::Flipped,
    Way::Truncated,
    Way::Emptied,
    Way::Deleted,
    Way::Folder,
    Way::Edited,
];

pub(crate) fn damage(path: &Path, way: Way) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    match way {
        Way::Flipped => {
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        }
        Way::Truncated => fs::write(path, &bytes[..middle]).unwrap(),
        Way::Emptied => fs::write(path, "").unwrap(),
        Way::Deleted => fs::remove_file(path).unwrap(),
        Way::Folder => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        Way::Edited => {
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

/// Damages every file of a folder in every way: each time it alone is found, and what it affects
/// alone runs again.
fn every_file_of(folder: &str, deletion_is_damage: bool) {
    let world = scene::world();
    let expected = scene::undisturbed();
    scene::run(&world, scene::unsynced());
    world.calls.take();
    let all = files(&world.config.cache.join(folder));
    assert!(!all.is_empty());
    for path in all {
        let bytes = fs::read(&path).unwrap();
        for way in WAYS {
            let what = format!("{way:?} {}", path.display());
            // A group whose units nobody asks for stays away.
            fs::write(&path, &bytes).unwrap();
            damage(&path, way);
            let report = scene::verify(&world);
            if way == Way::Deleted && !deletion_is_damage {
                assert_eq!(report.corruptions, [], "{what}");
            } else {
                let [found] = report.corruptions.as_slice() else {
                    panic!("{what}: {:#?}", report.corruptions)
                };
                assert_eq!(found.path, path, "{what}");
                match (&found.kind, way) {
                    (CorruptionKind::Missing, Way::Deleted) => assert_eq!(found.moved_to, None),
                    (_, Way::Deleted) => panic!("{what}: {found:?}"),
                    (wrong, Way::Folder) => assert_eq!(*wrong, CorruptionKind::NotAFile, "{what}"),
                    _ => assert!(
                        found.moved_to.as_ref().is_some_and(|aside| aside.exists()),
                        "{what}"
                    ),
                }
                assert!(!path.exists(), "{what}");
            }
            assert_eq!(
                scene::verify(&world).damage.len(),
                usize::from(still_missing(&report)),
                "{what}: found once"
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
            // Of stages with equal bytes, one makes them for all.
            if way != Way::Deleted || deletion_is_damage {
                assert!(
                    ran.is_subset(&names) && ran.is_empty() == names.is_empty(),
                    "{what}: {ran:?} of {names:?}"
                );
            }
            assert_eq!(
                world.calls.take().get("unit"),
                None,
                "{what}: results of units are kept apart"
            );
            assert_eq!(scene::verify(&world).damage, [], "{what}");
        }
    }
    let aside = fs::read_dir(world.config.cache.join("damaged"))
        .unwrap()
        .count();
    assert!(aside >= 5, "nothing was deleted: {aside}");
}

/// What a record misses stays missed until it is made.
fn still_missing(report: &blip_engine::VerifyReport) -> bool {
    report.corruptions.iter().any(|damage| {
        !damage.affected.is_empty()
            && damage
                .path
                .components()
                .any(|part| part.as_os_str() == "objects")
    })
}

#[test]
fn objects() {
    every_file_of("objects", true);
}

#[test]
fn records() {
    every_file_of("results", false);
}

#[test]
fn groups_of_results_of_units() {
    every_file_of("units", false);
}

#[test]
fn states_of_exports() {
    every_file_of("exports", false);
}

#[test]
fn ledgers() {
    every_file_of("ledgers", false);
}

#[test]
fn checkpoints() {
    const TRAIN: &str =
        "@checkpoint(every = 10) t = train(text(\"data\"), steps = 100, pause = 2)\n";
    let clean = World::in_memory();
    let undisturbed = clean.run(TRAIN);
    for way in WAYS {
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
            damage(newest, way);
            let report = scene::verify(&world);
            let what = format!("{way:?} {name}");
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
                "{what}: it goes on from the one before: {steps}"
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
fn what_is_damaged_is_repaired_by_name_and_nothing_else_runs() {
    let world = scene::world();
    let summary = scene::run(&world, scene::unsynced());
    world.calls.take();
    let damaged = summary.results["t"].output;
    let place = world
        .config
        .cache
        .join("objects")
        .join(&damaged.to_string()[..2])
        .join(damaged.to_string());
    damage(&place, Way::Flipped);
    let report = scene::verify(&world);
    let [found] = report.corruptions.as_slice() else {
        panic!("{:#?}", report.corruptions)
    };
    assert_eq!(
        found
            .affected
            .iter()
            .map(|affected| affected.stage.as_str())
            .collect::<Vec<_>>(),
        ["t"]
    );
    assert_eq!(
        found.kind.to_string(),
        "its bytes are not those that its name says"
    );
    let engine = scene::engine(&world);
    let other = world.workflow("z = text(\"z\")\n");
    let repaired = engine
        .repair(&report, &other, &RunOptions::default(), &mut [])
        .unwrap();
    assert_eq!(repaired.restored, []);
    assert_eq!(repaired.failed[0].1, "the workflow does not make it");
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
    assert!(world.calls.take().keys().eq(["step"]), "training alone ran");
    let changed = world.workflow(&SCENE.replace("alpha", "beta"));
    damage(&place, Way::Deleted);
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
fn all_who_need_a_damaged_result_wait_until_it_is_made_again() {
    for cpu in 1..4 {
        let mut world = World::in_memory();
        world.config.resources.cpu = cpu;
        let base = "a = text(\"hello\")\nb = upper(a)\n";
        let object = world.run(base).results["b"].output.to_string();
        damage(
            &world
                .config
                .cache
                .join("objects")
                .join(&object[..2])
                .join(&object),
            Way::Flipped,
        );
        let more = "c = join(b, a)\nd = join(b, b)\ne = join(b, a, a)\nf = join(a, b)\ng = length(b)\nh = length(c)\n";
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
        // Once, but for who moves what was just made again out of the way, and back.
        assert!(world.calls.take()["upper"] <= 2, "{cpu}");
    }
}

#[test]
fn a_stage_whose_input_comes_out_different_while_it_waits_is_another_one() {
    let world = World::in_memory();
    let base = "a = counted()\n";
    let object = world.run_with(base, &RunOptions::default()).0.results["a"]
        .output
        .to_string();
    damage(
        &world
            .config
            .cache
            .join("objects")
            .join(&object[..2])
            .join(&object),
        Way::Flipped,
    );
    // While `late` waits for its second attempt, `b` finds `a` damaged.
    let text = format!("{base}@retries(1) late = flaky(1, a)\nb = upper(a)\n");
    let (summary, _) = world.run_with(&text, &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Done);
    assert_ne!(summary.results["a"].output.to_string(), object);
    assert_eq!(scene::verify(&world).damage, []);
    let again = world.run_with(&text, &RunOptions::default()).0;
    assert!(
        again.stages.iter().all(|end| end.status == Status::Reused),
        "{:#?}",
        again.stages
    );
}

#[test]
fn a_stage_that_writes_what_is_there_damaged_writes_it_right() {
    let world = World::in_memory();
    let summary = world.run("a = text(\"HELLO\")\n");
    let digest = summary.results["a"].output.to_string();
    damage(
        &world
            .config
            .cache
            .join("objects")
            .join(&digest[..2])
            .join(&digest),
        Way::Flipped,
    );
    let summary = world.run("b = upper(text(\"hello\"))\n");
    assert_eq!(world.text(&summary, "b"), "HELLO");
    assert_eq!(scene::verify(&world).damage, []);
}

/// An old version file, or none that any program wrote.
#[test]
fn versions() {
    let world = World::in_memory();
    world.run("a = text(\"a\")\n");
    let version = world.config.cache.join("version");
    for way in [Way::Emptied, Way::Deleted, Way::Folder] {
        damage(&version, way);
        assert_eq!(
            world.run("a = text(\"a\")\n").stages[0].status,
            Status::Reused,
            "{way:?}"
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

/// sled's folder damaged in every way that is known to stop it: one line, built again, and nothing
/// is worked out twice.
mod sled {
    use super::*;

    const MAP: &str = "l = lines(\"lines.txt\")\ns = shout(l, copies = 3)\n";

    /// A world whose index knows thirty units, copied for every way to damage it.
    struct Bricks {
        world: World,
        pristine: tempfile::TempDir,
    }

    fn copy(from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let place = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &place)
            } else {
                fs::copy(entry.path(), place).unwrap();
            }
        }
    }

    impl Bricks {
        fn new() -> Self {
            let mut world = scene::world();
            world.config.index = IndexKind::Sled;
            let old = SystemTime::now() - Duration::from_secs(60);
            let file = fs::File::options()
                .write(true)
                .open(world.folder.path().join("lines.txt"))
                .unwrap();
            file.set_modified(old).unwrap();
            assert_eq!(world.run(MAP).outcome, Outcome::Done);
            // The map stage itself is forgotten: what it is made of are the units.
            let digest = world
                .engine()
                .reader()
                .ledger("toy.blip")
                .get("s")
                .unwrap()
                .key
                .to_string();
            fs::remove_file(
                world
                    .config
                    .cache
                    .join("results")
                    .join(&digest[..2])
                    .join(&digest),
            )
            .unwrap();
            let pristine = tempfile::tempdir_in(world.folder.path()).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            copy(&world.config.cache, pristine.path());
            Self { world, pristine }
        }

        /// Damages the index and runs; gives the warnings.
        fn after(&self, what: &str, damage: impl FnOnce(&Path)) -> Vec<String> {
            copy(self.pristine.path(), &self.world.config.cache);
            damage(&self.world.config.cache.join("index"));
            self.world.calls.take();
            let (summary, events) = self.world.run_with(MAP, &RunOptions::default());
            assert_eq!(summary.outcome, Outcome::Done, "{what}");
            let calls = self.world.calls.take();
            assert_eq!(calls.get("unit"), None, "{what}: everything is known");
            let warning = |event| {
                if let Event::Warning { text, .. } = event {
                    Some(text)
                } else {
                    None
                }
            };
            let warnings: Vec<String> = events.into_iter().filter_map(warning).collect();
            assert!(warnings.len() <= 1, "{what}: {warnings:?}");
            let again = self.world.run_with(MAP, &RunOptions::default());
            assert!(
                again
                    .1
                    .iter()
                    .all(|event| !matches!(event, Event::Warning { .. })),
                "{what}: said once"
            );
            warnings
        }

        fn rebuilt(&self, what: &str, damage: impl FnOnce(&Path)) {
            let warnings = self.after(what, damage);
            let [warning] = warnings.as_slice() else {
                panic!("{what}: {warnings:?}")
            };
            let start = "the index was damaged: it was built again from the ";
            assert!(warning.starts_with(start), "{what}: {warning}");
            assert!(warning.ends_with(&format!(
                "the old one is in {}",
                self.world.config.cache.join("damaged/index").display()
            )));
            assert!(
                self.world.config.cache.join("damaged/index").exists(),
                "{what}"
            );
        }
    }

    fn db(index: &Path) -> PathBuf {
        index.join("db")
    }

    #[test]
    fn deleted_or_bricked() {
        let bricks = Bricks::new();
        assert_eq!(bricks.after("nothing", |_| {}), [""; 0]);
        let warnings = bricks.after("deleted", |index| fs::remove_dir_all(index).unwrap());
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with(
                "the index was missing: it was built again from the 31 results in the cache"
            ),
            "{warnings:?}"
        );
        for len in [0, 40, 524_288] {
            let name = "snap.00000000000000FF.generating";
            assert_eq!(
                bricks.after("generating", |index| fs::write(
                    index.join(name),
                    vec![0; len]
                )
                .unwrap()),
                [""; 0]
            );
        }
        bricks.rebuilt("conf of zeros", |index| {
            fs::write(index.join("conf"), [0; 62]).unwrap()
        });
        bricks.rebuilt("conf of garbage", |index| {
            fs::write(index.join("conf"), "not a configuration").unwrap()
        });
        bricks.rebuilt("a file", |index| {
            fs::remove_dir_all(index).unwrap();
            fs::write(index, "no folder").unwrap();
        });
    }

    #[test]
    fn one_that_cannot_be_opened_is_done_without() {
        let bricks = Bricks::new();
        copy(bricks.pristine.path(), &bricks.world.config.cache);
        // Whatever it is that keeps sled from being opened: here its lock is a folder.
        fs::create_dir(bricks.world.config.cache.join("index.lock")).unwrap();
        bricks.world.calls.take();
        let (summary, events) = bricks.world.run_with(MAP, &RunOptions::default());
        assert_eq!(summary.outcome, Outcome::Done);
        assert_eq!(
            bricks.world.calls.take().get("unit"),
            None,
            "everything is known"
        );
        let warning = |event| {
            if let Event::Warning { text, .. } = event {
                Some(text)
            } else {
                None
            }
        };
        let warnings: Vec<String> = events.into_iter().filter_map(warning).collect();
        let said = format!(
            "the index is unusable: {} cannot be locked: Is a directory (os error 21); one in memory takes its place \
             until that is mended",
            bricks.world.config.cache.join("index.lock").display()
        );
        assert_eq!(warnings, [said.as_str()]);
        let report = bricks
            .world
            .engine()
            .verify(VerifyLevel::Full, &RunOptions::default())
            .unwrap();
        assert_eq!(
            (report.corruptions, report.index, report.notes),
            (Vec::new(), false, vec![said])
        );
    }

    #[test]
    fn one_that_somebody_else_has_open_is_not_looked_at() {
        let bricks = Bricks::new();
        let open = |access| {
            Cache::open(
                &bricks.world.config.cache,
                IndexKind::Sled,
                Disk::default(),
                access,
                |_| true,
            )
        };
        let other = open(Access::Run).unwrap().cache;
        other.units.get(&[Digest::of(b"asked")]);
        let verify = |level| {
            bricks
                .world
                .engine()
                .verify(level, &RunOptions::default())
                .unwrap()
        };
        assert_eq!(
            verify(VerifyLevel::Full).notes,
            ["the index was not looked at: another process has it open"]
        );
        assert_eq!(verify(VerifyLevel::Quick).notes, [""; 0]);
        drop(other);
        let report = verify(VerifyLevel::Full);
        assert!(report.index);
        assert_eq!(report.notes, [""; 0]);
    }

    /// The time that it takes to build again is told, not judged: it is the disk's.
    #[test]
    #[expect(clippy::print_stdout, reason = "--nocapture shows it")]
    fn ten_thousand_results_are_all_known_after_the_index_is_gone() {
        let mut world = scene::world();
        world.config.index = IndexKind::Sled;
        let text = "l = lines(\"many.txt\")\ns = shout(l, copies = 100)\n";
        world.write(
            "many.txt",
            &(0..100)
                .map(|number| format!("line {number}\n"))
                .collect::<String>(),
        );
        assert_eq!(world.calls_of(text).get("unit"), Some(&10_000));
        for folder in ["results", "ledgers", "maps", "index"] {
            fs::remove_dir_all(world.config.cache.join(folder)).unwrap();
        }
        let started = std::time::Instant::now();
        let (summary, events) = world.run_with(text, &RunOptions::default());
        println!(
            "an index of 10,000 results was built again and used within {:.2} s",
            started.elapsed().as_secs_f64()
        );
        assert_eq!(summary.outcome, Outcome::Done);
        let warning = |event| {
            if let Event::Warning { text, .. } = event {
                Some(text)
            } else {
                None
            }
        };
        let warnings: Vec<String> = events.into_iter().filter_map(warning).collect();
        assert_eq!(
            warnings,
            ["the index was missing: it was built again from the 10000 results in the cache"]
        );
        assert_eq!(
            world.calls.take().get("unit"),
            None,
            "all of them are known"
        );
    }

    #[test]
    fn flipped_and_truncated() {
        let bricks = Bricks::new();
        let (flips, cuts) = if std::env::var_os("BLIP_SOAK").is_some() {
            (100, 20)
        } else {
            (12, 5)
        };
        let len = fs::metadata(db(&bricks.pristine.path().join("index")))
            .unwrap()
            .len();
        for number in 0..flips {
            let at = usize::try_from(len * number / flips).unwrap();
            bricks.after(&format!("flip at {at}"), |index| {
                let mut bytes = fs::read(db(index)).unwrap();
                bytes[at] ^= 0x10;
                fs::write(db(index), bytes).unwrap();
            });
        }
        for number in 0..cuts {
            let cut = len * number / cuts;
            bricks.after(&format!("cut at {cut}"), |index| {
                fs::File::options()
                    .write(true)
                    .open(db(index))
                    .unwrap()
                    .set_len(cut)
                    .unwrap();
            });
        }
    }
}
