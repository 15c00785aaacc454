//! How much each look sees: a quick one what is missing, empty, cut short or changed since, a full
//! one everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use blip_engine::space::GcOptions;
use blip_engine::{CorruptionKind, RunOptions, VerifyLevel, VerifyReport};

use crate::corruption::{Way, damage, files};
use crate::scene;
use crate::training::StopAt;
use crate::world::World;

/// Its items are all good, so that the table of its chunks is kept.
const MAP: &str = "l = lines(\"good.txt\")\ns = shout(l, copies = 3)\n";

fn look(world: &World, level: VerifyLevel) -> VerifyReport {
    scene::engine(world)
        .verify(level, &RunOptions::default())
        .unwrap()
}

/// A cache that has something of everything.
fn everything() -> World {
    let world = scene::world();
    for name in ["notes.txt", "lines.txt"] {
        let file = fs::File::options()
            .write(true)
            .open(world.folder.path().join(name))
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60))
            .unwrap();
    }
    world.run("z = text(\"removed\")\n");
    world.write("good.txt", "one\ntwo\nthree\n");
    world.run(MAP);
    scene::run(&world, scene::unsynced());
    let all = GcOptions {
        keep_runs: 1,
        min_age: None,
        max_bytes: None,
        dry_run: false,
    };
    assert_eq!(
        world.engine().collect(&all, false).unwrap().results.len(),
        3
    );
    let options = RunOptions::default();
    let mut stop = StopAt(50, options.stop.clone());
    let text = "@checkpoint(every = 10) u = train(text(\"data\"), steps = 100, pause = 1)\n";
    world
        .engine()
        .run(&world.workflow(text), &options, &mut [&mut stop])
        .unwrap();
    world
}

/// Damages a file, looks, and puts everything back. Gives what was found.
fn found(
    world: &World,
    path: &Path,
    way: Way,
    level: VerifyLevel,
    keeps_time: bool,
) -> Vec<(PathBuf, CorruptionKind)> {
    let (bytes, time) = (
        fs::read(path).unwrap(),
        fs::metadata(path).unwrap().modified().unwrap(),
    );
    let set_time = || {
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap()
    };
    damage(path, way);
    if keeps_time {
        set_time();
    }
    let report = look(world, level);
    for damage in &report.corruptions {
        fs::rename(damage.moved_to.as_ref().unwrap(), &damage.path).unwrap();
    }
    fs::write(path, bytes).unwrap();
    set_time();
    report
        .corruptions
        .into_iter()
        .map(|damage| (damage.path, damage.kind))
        .collect()
}

#[test]
fn a_quick_look_sees_what_is_empty_cut_short_or_changed_wherever_it_lies() {
    let world = everything();
    for (folder, folder_is_the_unit) in [
        ("objects", false),
        ("results", false),
        ("units", false),
        ("files", false),
        ("checkpoints", true),
        ("growth", true),
        ("maps", false),
        ("evicted", false),
        ("ledgers", false),
        ("exports", false),
    ] {
        let all = files(&world.config.cache.join(folder));
        assert!(!all.is_empty(), "{folder}");
        for path in all {
            let unit = if folder_is_the_unit {
                path.parent().unwrap()
            } else {
                &path
            };
            for way in [Way::Truncated, Way::Emptied] {
                let found = found(&world, &path, way, VerifyLevel::Quick, false);
                let [(place, wrong)] = found.as_slice() else {
                    panic!("{way:?} {}: {found:?}", path.display())
                };
                assert_eq!(place, unit, "{way:?} {wrong}");
            }
        }
    }
    let quick = look(&world, VerifyLevel::Quick);
    assert_eq!(
        (
            quick.corruptions.as_slice(),
            quick.bytes,
            quick.strangers.len()
        ),
        ([].as_slice(), 0, 0)
    );
    assert!(quick.objects > 5 && quick.records > 5 && quick.groups > 1 && quick.checkpoints > 1);
}

#[test]
fn chunks_manifests_and_groups_say_themselves_when_they_are_cut_short() {
    let world = everything();
    let mut told = 0;
    for path in ["objects", "units", "files"]
        .map(|folder| files(&world.config.cache.join(folder)))
        .concat()
    {
        let says = fs::read(&path).unwrap().starts_with(b"BLIP");
        let found = found(&world, &path, Way::Truncated, VerifyLevel::Quick, true);
        assert!(
            found
                .iter()
                .all(|(_, wrong)| matches!(wrong, CorruptionKind::Digest | CorruptionKind::Empty)),
            "{found:?}"
        );
        assert!(!says || found.len() == 1, "{}", path.display());
        told += u32::from(says);
    }
    assert!(told >= 6, "{told}");
    // An op may store what begins like a chunk and is none.
    world.run("b = text(\"BLIPCHK1 is how a chunk begins\")\nm = text(\"BLIPSET1\")\n");
    assert_eq!(look(&world, VerifyLevel::Quick).damage, []);
}

#[test]
fn what_keeps_its_length_and_its_time_is_seen_by_full_looks_and_by_subsets_in_time() {
    let world = scene::world();
    scene::run(&world, scene::unsynced());
    let path = files(&world.config.cache.join("objects")).remove(0);
    assert_eq!(
        found(&world, &path, Way::Flipped, VerifyLevel::Quick, true),
        []
    );
    assert_eq!(
        found(&world, &path, Way::Flipped, VerifyLevel::Quick, false),
        [(path.clone(), CorruptionKind::Digest)]
    );
    assert_eq!(
        found(&world, &path, Way::Flipped, VerifyLevel::Full, true),
        [(path.clone(), CorruptionKind::Digest)]
    );
    let seen = (0..200)
        .find(|_| !found(&world, &path, Way::Flipped, VerifyLevel::Subset(0.2), true).is_empty());
    assert!(seen.is_some(), "200 looks at a fifth of everything each");
}

/// Final states of trainings are whole or set aside, and a training that cannot go on from one
/// begins anew.
#[test]
fn final_states_of_trainings() {
    let text = |steps: u64| {
        format!("@checkpoint(every = 10) t = train(text(\"data\"), steps = {steps})\n")
    };
    for (name, way) in [
        ("state", Way::Flipped),
        ("state", Way::Deleted),
        ("manifest.json", Way::Flipped),
    ] {
        let world = World::in_memory();
        world.run(&text(40));
        let path = files(&world.config.cache.join("growth"))
            .into_iter()
            .find(|path| path.ends_with(name))
            .unwrap();
        damage(&path, way);
        let report = look(&world, VerifyLevel::Full);
        let [found] = report.corruptions.as_slice() else {
            panic!("{way:?} {name}: {:#?}", report.corruptions)
        };
        assert_eq!(Some(found.path.as_path()), path.parent());
        assert!(
            found.moved_to.as_ref().is_some_and(|aside| aside.is_dir())
                && found.affected.is_empty()
        );
        assert_eq!(
            world.calls_of(&text(50)).get("step"),
            Some(&50),
            "{way:?} {name}"
        );
    }
}

/// A table of a map stage that is damaged is set aside, and nothing is worked out again for it.
#[test]
fn tables_of_map_stages() {
    for way in [
        Way::Flipped,
        Way::Truncated,
        Way::Emptied,
        Way::Deleted,
        Way::Folder,
    ] {
        let world = World::in_memory();
        world.write("good.txt", "one\ntwo\nthree\n");
        world.run(MAP);
        let [path] = files(&world.config.cache.join("maps")).try_into().unwrap();
        damage(&path, way);
        let report = look(&world, VerifyLevel::Quick);
        let wrong: Vec<String> = report
            .corruptions
            .iter()
            .map(|damage| damage.kind.to_string())
            .collect();
        let expected: &[&str] = match way {
            Way::Deleted => &[],
            Way::Folder => &["it is not a file"],
            _ => &["damaged table of a map stage: its bytes do not match its digest"],
        };
        assert_eq!(wrong, expected, "{way:?}");
        assert!(
            report
                .corruptions
                .iter()
                .all(|damage| damage.path == path && damage.moved_to.is_some()),
            "{way:?}"
        );
        world.write("good.txt", "one\ntwo\nthree\nfour\n");
        assert_eq!(
            world.calls_of(MAP).get("unit"),
            Some(&3),
            "{way:?}: the new line alone"
        );
    }
}

/// Records of what was removed are only for people: a damaged one is set aside and nothing runs for
/// it.
#[test]
fn records_of_removed_results() {
    let world = everything();
    let path = files(&world.config.cache.join("evicted")).remove(0);
    let other = files(&world.config.cache.join("results")).remove(0);
    for way in [Way::Flipped, Way::Folder, Way::Edited] {
        let bytes = fs::read(&path).unwrap();
        damage(&path, way);
        let report = look(&world, VerifyLevel::Quick);
        let [found] = report.corruptions.as_slice() else {
            panic!("{way:?}: {:#?}", report.corruptions)
        };
        assert!(
            found.path == path && found.affected.is_empty() && !path.exists(),
            "{way:?}"
        );
        fs::write(&path, bytes).unwrap();
    }
    fs::copy(other, &path).unwrap();
    let report = look(&world, VerifyLevel::Quick);
    assert_eq!(
        report.corruptions[0].kind.to_string(),
        "it is the record of another key"
    );
    assert_eq!(report.affected(), []);
}

#[test]
fn files_that_have_no_business_there_are_named_and_left() {
    let world = scene::world();
    scene::run(&world, scene::unsynced());
    let places = ["ledgers/notes", "maps/notes", "objects/aa/notes"]
        .map(|name| world.config.cache.join(name));
    for place in &places {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, "mine").unwrap();
    }
    let report = look(&world, VerifyLevel::Full);
    let mut strangers = report.unknown_files;
    strangers.sort();
    assert_eq!(
        (report.corruptions, strangers.len()),
        (Vec::new(), 3),
        "{strangers:?}"
    );
    assert!(places.iter().all(|place| place.is_file()));
}
