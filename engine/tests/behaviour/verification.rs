//! What each level of verification detects: a quick one what is missing, empty, truncated or
//! modified since, a full one everything.

use std::fs;
use std::path::{Path, PathBuf};

use blip_engine::space::GcOptions;
use blip_engine::{CorruptionKind, RunOptions, VerifyLevel, VerifyReport};

use crate::corruption::{Damage, corrupt, files};
use crate::scene;
use crate::training::StopAt;
use crate::world::World;

/// No item is rejected, so all chunks are in the map table.
const MAP: &str = "l = lines(\"good.txt\")\ns = shout(l, copies = 3)\n";

fn verify(world: &World, level: VerifyLevel) -> VerifyReport {
    scene::engine(world)
        .verify(level, &RunOptions::default())
        .unwrap()
}

/// A cache with something in every folder.
fn full_world() -> World {
    let world = scene::world();
    scene::age(&world);
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

/// Corrupts a file, verifies, and restores everything. Returns what was reported.
fn verify_corrupted(
    world: &World,
    path: &Path,
    damage: Damage,
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
    corrupt(path, damage);
    if keeps_time {
        set_time();
    }
    let report = verify(world, level);
    for corruption in &report.corruptions {
        fs::rename(corruption.moved_to.as_ref().unwrap(), &corruption.path).unwrap();
    }
    fs::write(path, bytes).unwrap();
    set_time();
    report
        .corruptions
        .into_iter()
        .map(|corruption| (corruption.path, corruption.kind))
        .collect()
}

#[test]
fn a_quick_verification_detects_empty_truncated_and_modified_files_in_every_folder() {
    let world = full_world();
    for (folder, moves_folder) in [
        ("objects", false),
        ("results", false),
        ("units", false),
        ("files", false),
        ("checkpoints", true),
        ("growth", true),
        ("maps", false),
        ("evicted", false),
        ("ledgers", false),
    ] {
        let all = files(&world.config.cache.join(folder));
        assert!(!all.is_empty(), "{folder}");
        for path in all {
            let moved = if moves_folder {
                path.parent().unwrap()
            } else {
                &path
            };
            for damage in [Damage::Truncated, Damage::Emptied] {
                let found = verify_corrupted(&world, &path, damage, VerifyLevel::Quick, false);
                let [(found_path, kind)] = found.as_slice() else {
                    panic!("{damage:?} {}: {found:?}", path.display())
                };
                assert_eq!(found_path, moved, "{damage:?} {kind}");
            }
        }
    }
    let quick = verify(&world, VerifyLevel::Quick);
    assert_eq!(
        (
            quick.corruptions.as_slice(),
            quick.bytes,
            quick.unknown_files.len()
        ),
        ([].as_slice(), 0, 0)
    );
    assert!(quick.objects > 5 && quick.records > 5 && quick.groups > 1 && quick.checkpoints > 1);
}

#[test]
fn truncated_chunks_manifests_and_groups_are_detected_by_their_own_length() {
    let world = full_world();
    let mut detected = 0;
    for path in ["objects", "units", "files"]
        .map(|folder| files(&world.config.cache.join(folder)))
        .concat()
    {
        let has_length = fs::read(&path).unwrap().starts_with(b"BLIP");
        let found = verify_corrupted(&world, &path, Damage::Truncated, VerifyLevel::Quick, true);
        assert!(
            found
                .iter()
                .all(|(_, kind)| matches!(kind, CorruptionKind::Digest | CorruptionKind::Empty)),
            "{found:?}"
        );
        assert!(!has_length || found.len() == 1, "{}", path.display());
        detected += u32::from(has_length);
    }
    assert!(detected >= 6, "{detected}");
    // An op may store what begins like a chunk and is not one.
    world.run("b = text(\"BLIPCHK1 is how a chunk begins\")\nm = text(\"BLIPSET1\")\n");
    assert_eq!(verify(&world, VerifyLevel::Quick).corruptions, []);
}

#[test]
fn what_keeps_its_length_and_time_is_detected_by_full_and_subset_verifications() {
    let world = scene::world();
    scene::run(&world, scene::unsynced());
    let path = files(&world.config.cache.join("objects")).remove(0);
    assert_eq!(
        verify_corrupted(&world, &path, Damage::Flipped, VerifyLevel::Quick, true),
        []
    );
    assert_eq!(
        verify_corrupted(&world, &path, Damage::Flipped, VerifyLevel::Quick, false),
        [(path.clone(), CorruptionKind::Digest)]
    );
    assert_eq!(
        verify_corrupted(&world, &path, Damage::Flipped, VerifyLevel::Full, true),
        [(path.clone(), CorruptionKind::Digest)]
    );
    let detected = (0..200).find(|_| {
        !verify_corrupted(
            &world,
            &path,
            Damage::Flipped,
            VerifyLevel::Subset(0.2),
            true,
        )
        .is_empty()
    });
    assert!(detected.is_some(), "200 random fifths contain it");
}

/// A corrupt warm start is moved away, and the longer training starts from step 0.
#[test]
fn warm_starts() {
    let text = |steps: u64| {
        format!("@checkpoint(every = 10) t = train(text(\"data\"), steps = {steps})\n")
    };
    for (name, damage) in [
        ("state", Damage::Flipped),
        ("state", Damage::Deleted),
        ("manifest.json", Damage::Flipped),
    ] {
        let world = World::in_memory();
        world.run(&text(40));
        let path = files(&world.config.cache.join("growth"))
            .into_iter()
            .find(|path| path.ends_with(name))
            .unwrap();
        corrupt(&path, damage);
        let report = verify(&world, VerifyLevel::Full);
        let [found] = report.corruptions.as_slice() else {
            panic!("{damage:?} {name}: {:#?}", report.corruptions)
        };
        assert_eq!(Some(found.path.as_path()), path.parent());
        assert!(
            found.moved_to.as_ref().is_some_and(|path| path.is_dir()) && found.affected.is_empty()
        );
        assert_eq!(
            world.calls_of(&text(50)).get("step"),
            Some(&50),
            "{damage:?} {name}"
        );
    }
}

/// A corrupt map table is moved away, and no unit is recomputed because of it.
#[test]
fn map_tables() {
    for damage in [
        Damage::Flipped,
        Damage::Truncated,
        Damage::Emptied,
        Damage::Deleted,
        Damage::Folder,
    ] {
        let world = World::in_memory();
        world.write("good.txt", "one\ntwo\nthree\n");
        world.run(MAP);
        let [path] = files(&world.config.cache.join("maps")).try_into().unwrap();
        corrupt(&path, damage);
        let report = verify(&world, VerifyLevel::Quick);
        let kinds: Vec<String> = report
            .corruptions
            .iter()
            .map(|corruption| corruption.kind.to_string())
            .collect();
        let expected: &[&str] = match damage {
            Damage::Deleted => &[],
            Damage::Folder => &["it is not a file"],
            _ => &["corrupt map table: checksum mismatch"],
        };
        assert_eq!(kinds, expected, "{damage:?}");
        assert!(
            report
                .corruptions
                .iter()
                .all(|corruption| corruption.path == path && corruption.moved_to.is_some()),
            "{damage:?}"
        );
        world.write("good.txt", "one\ntwo\nthree\nfour\n");
        assert_eq!(
            world.calls_of(MAP).get("unit"),
            Some(&3),
            "{damage:?}: only the new line"
        );
    }
}

/// A corrupt record of an evicted result is moved away, and affects no result.
#[test]
fn records_of_evicted_results() {
    let world = full_world();
    let path = files(&world.config.cache.join("evicted")).remove(0);
    let other = files(&world.config.cache.join("results")).remove(0);
    for damage in [Damage::Flipped, Damage::Folder, Damage::Edited] {
        let bytes = fs::read(&path).unwrap();
        corrupt(&path, damage);
        let report = verify(&world, VerifyLevel::Quick);
        let [found] = report.corruptions.as_slice() else {
            panic!("{damage:?}: {:#?}", report.corruptions)
        };
        assert!(
            found.path == path && found.affected.is_empty() && !path.exists(),
            "{damage:?}"
        );
        fs::write(&path, bytes).unwrap();
    }
    fs::copy(other, &path).unwrap();
    let report = verify(&world, VerifyLevel::Quick);
    assert_eq!(
        report.corruptions[0].kind.to_string(),
        "it is the record of another key"
    );
    assert_eq!(report.affected(), []);
}

#[test]
fn unknown_files_are_reported_and_left_in_place() {
    let world = scene::world();
    scene::run(&world, scene::unsynced());
    let places = ["ledgers/notes", "maps/notes", "objects/aa/notes"]
        .map(|name| world.config.cache.join(name));
    for place in &places {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, "mine").unwrap();
    }
    let report = verify(&world, VerifyLevel::Full);
    let mut unknown = report.unknown_files;
    unknown.sort();
    assert_eq!(
        (report.corruptions, unknown.len()),
        (Vec::new(), 3),
        "{unknown:?}"
    );
    assert!(places.iter().all(|place| place.is_file()));
}
