//! A read that fails is not corruption: what passes is tried again, what stays is an error that
//! names the file; nothing runs twice and nothing is moved.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::space::GcOptions;
use blip_engine::{IndexKind, Outcome, RunOptions, VerifyLevel};

use crate::corruption::{Damage, corrupt, files};
use crate::scene::{self, SCENE};
use crate::training::StopAt;
use crate::world::{EventRecorder, World, counts, end, warnings};

const EIO: i32 = 5;
const EACCES: i32 = 13;
/// EIO, ENOMEM, EMFILE, ESTALE.
const PASSING: [i32; 4] = [EIO, 12, 24, 116];
const ALWAYS: i64 = i64::MAX;

/// A disk on which reads of a part of the cache fail, this many times.
struct FailingReads {
    part: PathBuf,
    error: i32,
    left: AtomicI64,
}

impl Hook for FailingReads {
    fn before(&self, _: Syscall, _: &Path) -> FaultAction {
        FaultAction::SkipSync
    }

    fn after(&self, _: Syscall, _: &Path) {}

    fn before_read(&self, path: &Path) -> io::Result<()> {
        // Folders above a file can be listed: the error is one of the file itself.
        if path.starts_with(&self.part) && !path.is_dir() || path.ends_with("index") {
            let is_index = self.part.ends_with("index");
            if is_index == path.ends_with("index") && self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
                return Err(io::Error::from_raw_os_error(self.error));
            }
        }
        Ok(())
    }
}

/// The result of a run on such a disk.
struct Run {
    summary: blip_engine::Summary,
    warnings: Vec<String>,
    calls: BTreeMap<String, u64>,
    failed_reads: i64,
}

fn hook(world: &World, part: &str, error: i32, failures: i64) -> Arc<FailingReads> {
    Arc::new(FailingReads {
        part: world.config.cache.join(part),
        error,
        left: failures.into(),
    })
}

fn run(world: &World, text: &str, hook: &Arc<FailingReads>) -> Run {
    let failures = hook.left.load(Ordering::SeqCst);
    let engine = world.engine().with_disk(Disk::with_hook(hook.clone()));
    let options = RunOptions {
        prefetch: Some(engine.prefetch("toy.blip")),
        ..RunOptions::default()
    };
    let mut recorder = EventRecorder::default();
    world.calls.take();
    let summary = engine
        .run(&world.workflow(text), &options, &mut [&mut recorder])
        .unwrap();
    Run {
        summary,
        warnings: warnings(recorder.0),
        calls: world.calls.take(),
        failed_reads: failures - hook.left.load(Ordering::SeqCst),
    }
}

/// A world with the files of the scene, but no rejected item: map tables leave those out.
fn world() -> World {
    let world = scene::world();
    let lines: Vec<String> = (0..9).map(|number| format!("line {number}")).collect();
    world.write("lines.txt", &lines.join("\n"));
    world
}

/// The outcome of a run without faults.
fn undisturbed() -> BTreeMap<String, String> {
    let world = world();
    let summary = scene::run(&world, scene::unsynced());
    scene::outcome(&world, &summary)
}

/// A world in which the scene has run, and whose next run reads a file of this part.
fn prepare(part: &str) -> World {
    let mut world = world();
    if part == "index" {
        world.config.index = IndexKind::Sled;
    }
    scene::age(&world);
    let summary = scene::run(&world, scene::unsynced());
    let cache = world.config.cache.clone();
    match part {
        "results" => fs::remove_dir_all(cache.join("ledgers")).unwrap(),
        "objects" => fs::remove_file(world.folder.path().join("out/t.txt")).unwrap(),
        "units" | "maps" => {
            fs::remove_file(world.record_path(&summary.results["s"].key)).unwrap();
            if part == "units" {
                fs::remove_dir_all(cache.join("maps")).unwrap();
            }
        }
        _ => {}
    }
    world
}

fn assert_nothing_moved(world: &World, what: &str) {
    let moved = files(&world.config.cache.join("corrupt"));
    assert!(moved.is_empty(), "{what}: {moved:?}");
}

#[test]
fn an_error_that_passes_costs_nothing() {
    for part in [
        "results",
        "objects",
        "units",
        "files",
        "ledgers",
        "maps",
        "version",
        "CACHEDIR.TAG",
        "index",
    ] {
        for error in PASSING {
            let what = format!("{part}, error {error}");
            let world = prepare(part);
            let ran = run(&world, SCENE, &hook(&world, part, error, 1));
            assert!(ran.failed_reads >= 1, "{what}: nothing was read");
            let outcome = ran.summary.outcome;
            assert_eq!(outcome, Outcome::Done, "{what}: {:#?}", ran.summary.stages);
            // The export that reads the object is what was asked for.
            let expected = match part {
                "objects" => counts([("export", 1)]),
                _ => counts([]),
            };
            assert_eq!(ran.calls, expected, "{what}");
            assert_eq!(ran.warnings, [""; 0], "{what}");
            assert_nothing_moved(&world, &what);
            let found = scene::outcome(&world, &ran.summary);
            assert_eq!(found, undisturbed(), "{what}");
        }
    }
}

/// The text with the digits of digests and numbers of files left out.
fn masked(world: &World, text: &str) -> String {
    let text = text.replace(&world.config.cache.display().to_string(), "CACHE");
    let is_digest =
        |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut masked = Vec::new();
    for part in text.split('/') {
        let (name, rest) = part.split_at_checked(64).unwrap_or((part, ""));
        if is_digest(&name) {
            masked.push(format!("DIGEST{rest}"));
        } else if part.len() == 2 {
            masked.push("aa".to_owned());
        } else {
            masked.push(part.to_owned());
        }
    }
    masked.join("/")
}

#[test]
fn an_error_that_stays_is_named_and_no_stage_runs_for_it() {
    let os = "Input/output error (os error 5)";
    for (part, message) in [
        (
            "results",
            format!("could not read CACHE/results/aa/DIGEST: {os}"),
        ),
        (
            "units",
            format!("could not read CACHE/units/aa/DIGEST: {os}"),
        ),
    ] {
        let world = prepare(part);
        let ran = run(&world, SCENE, &hook(&world, part, EIO, ALWAYS));
        assert_eq!(ran.summary.outcome, Outcome::Failed, "{part}");
        assert_eq!(ran.calls, counts([]), "{part}");
        let errors = ran
            .summary
            .stages
            .iter()
            .filter_map(|end| end.error.clone());
        let found: Vec<_> = errors
            .filter(|error| !error.what.starts_with("its input"))
            .collect();
        assert!(!found.is_empty(), "{part}");
        for error in found {
            assert_eq!(masked(&world, &error.what), message);
            let help = "check the disk and run again; finished results are kept";
            assert_eq!(error.help, help);
        }
        assert_nothing_moved(&world, part);
        let ran = run(&world, SCENE, &hook(&world, part, EIO, 0));
        assert_eq!(ran.summary.outcome, Outcome::Done, "{part}");
        assert_eq!(ran.calls, counts([]), "{part}: the files are as they were");
    }
}

/// Files that only make a run faster: the run goes on without them, and leaves them as they are.
#[test]
fn what_can_be_done_without_is_left_as_it_is() {
    let os = "Permission denied (os error 13)";
    for (part, warning) in [
        (
            "ledgers",
            format!(
                "could not read CACHE/ledgers/DIGEST: {os}; every result is looked up by itself"
            ),
        ),
        (
            "maps",
            format!("could not read CACHE/maps/DIGEST: {os}; every item is looked up"),
        ),
        ("files", String::new()),
        (
            "index",
            format!(
                "the index could not be read: IO error: {os}; using an index in memory until that \
                 is fixed"
            ),
        ),
    ] {
        let world = prepare(part);
        let before: Vec<_> = files(&world.config.cache.join(part));
        let bytes: Vec<_> = before.iter().map(|path| fs::read(path).unwrap()).collect();
        let ran = run(&world, SCENE, &hook(&world, part, EACCES, ALWAYS));
        assert_eq!(ran.summary.outcome, Outcome::Done, "{part}");
        assert_eq!(ran.calls, counts([]), "{part}");
        let found: Vec<String> = ran
            .warnings
            .iter()
            .map(|text| masked(&world, text))
            .collect();
        let expected = Vec::from_iter((!warning.is_empty()).then_some(warning));
        assert_eq!(found, expected, "{part}");
        assert_nothing_moved(&world, part);
        for (path, bytes) in before.iter().zip(bytes) {
            assert_eq!(fs::read(path).unwrap(), bytes, "{}", path.display());
        }
    }
}

#[test]
fn a_cache_whose_own_files_cannot_be_read_is_not_used() {
    for part in ["version", "CACHEDIR.TAG"] {
        let world = prepare(part);
        let hook = hook(&world, part, EIO, ALWAYS);
        let engine = world.engine().with_disk(Disk::with_hook(hook));
        let ran = engine.run(&world.workflow(SCENE), &RunOptions::default(), &mut []);
        let error = ran.unwrap_err().to_string();
        let expected = format!("could not read CACHE/{part}: Input/output error (os error 5)");
        assert_eq!(masked(&world, &error), expected);
        assert_nothing_moved(&world, part);
    }
}

const TRAIN: &str = "@checkpoint(every = 10) t = train(text(\"data\"), steps = 100, pause = 2)\n";

#[test]
fn a_training_resumes_from_a_checkpoint_that_could_not_be_read_at_first() {
    for (part, text) in [
        ("checkpoints", TRAIN.to_owned()),
        ("growth", TRAIN.replace("steps = 100", "steps = 120")),
    ] {
        let world = World::in_memory();
        let options = RunOptions::default();
        let at = if part == "growth" { 1000 } else { 50 };
        let mut stop = StopAt(at, options.stop.clone());
        let workflow = world.workflow(TRAIN);
        world
            .engine()
            .run(&workflow, &options, &mut [&mut stop])
            .unwrap();
        let ran = run(&world, &text, &hook(&world, part, EACCES, ALWAYS));
        assert_eq!(ran.calls, counts([]), "{part}: no step is repeated");
        let error = end(&ran.summary, "t").error.clone().unwrap();
        let expected = format!("could not read {}", world.config.cache.join(part).display());
        assert!(error.what.starts_with(&expected), "{}", error.what);
        let help = "make the file readable, or name another cache folder with --cache";
        assert_eq!(error.help, help);
        assert_nothing_moved(&world, part);
        let ran = run(&world, &text, &hook(&world, part, EIO, 1));
        assert!(ran.failed_reads >= 1, "{part}: nothing was read");
        assert_eq!(ran.summary.outcome, Outcome::Done, "{part}");
        let steps = ran.calls.get("step").copied().unwrap_or(0);
        assert!((1..=70).contains(&steps), "{part}: {steps} steps");
        assert_nothing_moved(&world, part);
    }
}

#[test]
fn verification_names_what_it_cannot_read_and_leaves_it() {
    for part in ["results", "objects", "units", "ledgers", "maps"] {
        let world = prepare("none");
        let count = files(&world.config.cache.join(part)).len();
        let hook = hook(&world, part, EACCES, ALWAYS);
        let engine = world.engine().with_disk(Disk::with_hook(hook));
        let report = engine
            .verify(VerifyLevel::Full, &RunOptions::default())
            .unwrap();
        assert_eq!(report.corruptions, [], "{part}");
        assert!(report.unreadable.len() >= count, "{part}");
        let start = format!("could not read {}", world.config.cache.join(part).display());
        for text in &report.unreadable {
            assert!(
                text.starts_with(&start) && text.ends_with("(os error 13)"),
                "{text}"
            );
        }
        assert_nothing_moved(&world, part);
    }
}

/// What a record or a log refers to would look like garbage if it could not be read.
#[test]
fn collection_stops_at_a_record_or_a_log_that_it_cannot_read() {
    let options = GcOptions {
        keep_runs: 1,
        min_age: None,
        max_bytes: None,
        dry_run: false,
    };
    for part in ["results", "runs"] {
        let world = prepare("none");
        let before = files(&world.config.cache);
        let hook = hook(&world, part, EACCES, ALWAYS);
        let engine = world.engine().with_disk(Disk::with_hook(hook));
        let error = engine.collect(&options, false).unwrap_err().to_string();
        assert!(error.contains("Permission denied"), "{part}: {error}");
        assert_eq!(files(&world.config.cache), before, "{part}");
    }
}

/// The chunks that a map stage knows from its table are not read by it. A corrupt one is found by
/// who reads it, while the stage's record may still be on its way to the disk.
#[test]
fn a_corrupt_chunk_that_a_map_table_reuses_heals_in_one_run() {
    for _ in 0..20 {
        let world = prepare("none");
        let summary = scene::run(&world, scene::unsynced());
        let chunks = summary.results["s"].objects.clone();
        for chunk in &chunks {
            corrupt(&world.object_path(chunk), Damage::Flipped);
        }
        for stage in ["s", "w"] {
            fs::remove_file(world.record_path(&summary.results[stage].key)).unwrap();
        }
        let healed = scene::run(&world, scene::unsynced());
        assert_eq!(healed.outcome, Outcome::Done, "{:#?}", healed.stages);
        assert_eq!(scene::outcome(&world, &healed), undisturbed());
        assert_eq!(scene::verify(&world).corruptions, []);
    }
}
