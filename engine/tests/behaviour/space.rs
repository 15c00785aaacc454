//! Garbage collection keeps a cache within bounds and never changes the result of a run.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use blip_engine::cache::disk::Disk;
use blip_engine::cache::lock::Holder;
use blip_engine::cache::{Access, Cache};
use blip_engine::space::{Amount, GcOptions, GcReport};
use blip_engine::{Event, IndexKind, Outcome, RunOptions, Status, VerifyLevel};

use crate::training::StopAt;
use crate::world::{World, counts, status};

const ALL: GcOptions = GcOptions {
    keep_runs: 1,
    min_age: None,
    max_bytes: None,
    dry_run: false,
};

fn collect(world: &World, options: &GcOptions) -> GcReport {
    world.engine().collect(options, false).unwrap()
}

fn chain(word: &str) -> String {
    format!("a = text(\"{word}\")\nb = upper(a)\nc = length(b)\n")
}

fn reasons(world: &World, text: &str, stage: &str) -> Vec<String> {
    let (_, events) = world.run_with(text, &RunOptions::default());
    let why = events.into_iter().find_map(|event| match event {
        Event::StageStarted {
            stage: name, why, ..
        } if *name == *stage => Some(why),
        _ => None,
    });
    why.unwrap()
}

#[test]
fn results_of_the_last_runs_stay() {
    let world = World::new();
    for word in ["one", "three", "seven"] {
        world.run(&chain(word));
    }
    let before = world.engine().disk_usage().unwrap();
    let plan = collect(
        &world,
        &GcOptions {
            dry_run: true,
            ..ALL
        },
    );
    assert_eq!(
        world.engine().disk_usage().unwrap(),
        before,
        "a dry run removes nothing"
    );
    let done = collect(&world, &ALL);
    assert_eq!(plan.results, done.results);
    assert_eq!((done.results.len(), done.rooted), (6, 3));
    assert!(done.bytes_after < done.bytes_before);
    assert_eq!(world.calls_of(&chain("seven")), counts([]));
    let reasons = reasons(&world, &chain("one"), "b");
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].starts_with("input from: "), "{reasons:?}");
    assert_eq!(reasons[1], "its result was removed to make room, just now");
}

#[test]
fn pinned_and_exported_results_stay() {
    let world = World::new();
    let exported = format!("{}export b as txt \"out/b.txt\"\n", chain("exported"));
    world.run(&exported);
    let pinned = world.run(&chain("pinned"));
    world.engine().pin(&pinned.run, true).unwrap();
    world.run(&chain("newest"));
    collect(&world, &ALL);
    assert_eq!(world.calls_of(&chain("pinned")), counts([]));
    assert_eq!(
        world
            .calls_of("a = text(\"exported\")\nb = upper(a)\n")
            .get("upper"),
        None
    );
    world.engine().pin(&pinned.run, false).unwrap();
    world.run(&chain("newest"));
    collect(&world, &ALL);
    assert_eq!(world.calls_of(&chain("pinned")).get("upper"), Some(&1));
    let error = world.engine().pin("nope", true).unwrap_err().to_string();
    assert!(
        error.starts_with("could not use the cache ") && error.contains("/runs/nope: "),
        "{error}"
    );
}

#[test]
fn a_budget_removes_what_is_cheap_to_recompute_first() {
    let world = World::new();
    let large = "x".repeat(10_000);
    world.run(&format!("large = text(\"{large}\")\nsmall = text(\"s\")\n"));
    world.run("other = text(\"o\")\n");
    let used = world.engine().disk_usage().unwrap().total().bytes;
    let done = collect(
        &world,
        &GcOptions {
            max_bytes: Some(used),
            ..ALL
        },
    );
    assert_eq!(done.results, [], "it fits");
    let done = collect(
        &world,
        &GcOptions {
            max_bytes: Some(used - 5_000),
            ..ALL
        },
    );
    assert_eq!(
        done.results
            .iter()
            .map(|result| result.stage.as_str())
            .collect::<Vec<_>>(),
        ["large"]
    );
    assert!(done.bytes_after <= used - 5_000);
}

#[test]
fn young_results_stay_when_an_age_is_given() {
    let world = World::new();
    world.run(&chain("one"));
    world.run(&chain("seven"));
    let done = collect(
        &world,
        &GcOptions {
            min_age: Some(Duration::from_secs(3600)),
            ..ALL
        },
    );
    assert_eq!(done.results, []);
    let done = collect(
        &world,
        &GcOptions {
            min_age: Some(Duration::ZERO),
            ..ALL
        },
    );
    assert_eq!(done.results.len(), 3);
}

#[test]
fn collecting_at_any_time_changes_no_result() {
    let (collected, clean) = (World::new(), World::new());
    let text = |word: &str, lines: &str| {
        let map = format!("in = lines(\"{lines}\")\nout = shout(in)\nall = show(out)\n");
        format!(
            "{}{map}t = train(b, steps = 20)\nend = join(c, all, t)\n",
            chain(word)
        )
    };
    for world in [&collected, &clean] {
        world.write("a.txt", "one\ntwo\nbad\n");
        world.write("b.txt", "three\nfour\n");
    }
    let steps = [
        ("one", "a.txt"),
        ("two", "*.txt"),
        ("one", "a.txt"),
        ("one", "b.txt"),
        ("two", "*.txt"),
    ];
    let budgets = [Some(0), None, Some(3_000), None, Some(0)];
    for ((word, lines), max_bytes) in steps.into_iter().zip(budgets) {
        let text = text(word, lines);
        let summary = collected.run(&text);
        assert_eq!(summary.outcome, Outcome::Done);
        assert_eq!(
            collected.text(&summary, "end"),
            clean.text(&clean.run(&text), "end")
        );
        let min_age = max_bytes.map(|_| Duration::ZERO);
        collect(
            &collected,
            &GcOptions {
                keep_runs: 0,
                min_age,
                max_bytes,
                dry_run: false,
            },
        );
        let again = collected.run(&text);
        assert_eq!(status(&again, "end"), Status::Ran, "nothing was kept");
    }
}

/// Earlier versions moved corrupt files to `damaged/`. It counts as `corrupt/`, nothing is added to
/// it, and it is collected.
#[test]
fn the_folder_of_corrupt_files_of_earlier_versions_is_counted_ignored_and_collected() {
    let world = World::new();
    let object = world.run(&chain("one")).results["b"].output;
    let (corrupt, before) = (
        world.config.cache.join("corrupt"),
        world.config.cache.join("damaged"),
    );
    fs::create_dir(&before).unwrap();
    fs::write(before.join("results-aa-bb"), "old").unwrap();
    let corrupt_usage = || {
        let usage = world.engine().disk_usage().unwrap();
        usage.parts.into_iter().find(|(part, _)| *part == "corrupt")
    };
    let amount = |files, bytes| Some(("corrupt", Amount { files, bytes }));
    assert_eq!(corrupt_usage(), amount(1, 3));

    fs::write(world.object_path(&object), "HELLO?").unwrap();
    let report = world
        .engine()
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap();
    let [found] = report.corruptions.as_slice() else {
        panic!("{:#?}", report.corruptions)
    };
    let moved_to = found.moved_to.as_ref().unwrap();
    assert_eq!(moved_to.parent(), Some(corrupt.as_path()));
    assert_eq!(report.unknown_files, Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(&before).unwrap().count(), 1);
    assert_eq!(corrupt_usage(), amount(2, 9));

    let report = collect(&world, &ALL);
    let removed = Amount { files: 2, bytes: 9 };
    assert_eq!(report.parts.get("corrupt"), Some(&removed));
    assert_eq!(corrupt_usage(), None);
    assert!(!before.join("results-aa-bb").exists() && !moved_to.exists());
}

#[test]
fn exports_of_two_workflows_to_one_relative_path_are_both_kept() {
    let world = World::new();
    let run = |name: &str, word: &str| {
        let mut workflow =
            world.workflow(&format!("{}export b as txt \"out/b.txt\"\n", chain(word)));
        name.clone_into(&mut workflow.name);
        let options = RunOptions::default();
        let summary = world.engine().run(&workflow, &options, &mut []).unwrap();
        assert_eq!(summary.outcome, Outcome::Done);
    };
    run("one/w.blip", "one");
    run("two/w.blip", "two");
    collect(
        &world,
        &GcOptions {
            keep_runs: 0,
            ..ALL
        },
    );
    for word in ["one", "two"] {
        world.calls.take();
        let calls = world.calls_of(&format!("a = text(\"{word}\")\nb = upper(a)\n"));
        assert_eq!(calls.get("upper"), None, "{word}");
    }
}

#[test]
fn the_newest_run_is_the_newest_after_the_clock_was_set_back() {
    let world = World::new();
    let first = world.run(&chain("one")).run;
    let runs = world.config.cache.join("runs");
    let future = "09990000000000-1";
    fs::rename(runs.join(first), runs.join(future)).unwrap();
    let second = world.run(&chain("seven")).run;
    assert!(second.as_str() > future, "{second}");
    assert!(second.starts_with("09990000000001-"), "{second}");
    assert_eq!(world.engine().reader().runs().unwrap(), [future, &second]);
    collect(&world, &ALL);
    assert_eq!(world.calls_of(&chain("seven")), counts([]));
    assert_eq!(world.calls_of(&chain("one")).get("upper"), Some(&1));
}

#[test]
fn a_warm_start_goes_with_the_last_result_that_left_it() {
    let world = World::new();
    let train = |steps: u32| format!("t = train(text(\"data\"), steps = {steps})\n");
    let warm_starts = || {
        let paths = crate::corruption::files(&world.config.cache.join("growth"));
        let mut values: Vec<u64> = paths
            .iter()
            .filter_map(|path| path.iter().rev().nth(2)?.to_str()?.parse().ok())
            .collect();
        values.dedup();
        values
    };
    let growth = |report: &GcReport| report.parts.get("growth").copied().unwrap_or_default();
    world.run(&train(20));
    world.run(&train(50));
    assert_eq!(warm_starts(), [20, 50]);
    assert_eq!(
        growth(&collect(
            &world,
            &GcOptions {
                keep_runs: 2,
                ..ALL
            }
        ))
        .files,
        0
    );
    let plan = collect(
        &world,
        &GcOptions {
            dry_run: true,
            ..ALL
        },
    );
    assert_eq!(warm_starts(), [20, 50], "a dry run removes nothing");
    let done = collect(&world, &ALL);
    assert_eq!(warm_starts(), [50], "that of the newest run stays");
    assert!(growth(&done).files >= 2);
    assert_eq!(growth(&plan), growth(&done));
    // One that no result has left, as when its record was deleted.
    let key = world.run(&train(50)).results["t"].key;
    fs::remove_file(world.record_path(&key)).unwrap();
    collect(&world, &ALL);
    assert_eq!(warm_starts(), [0; 0]);
}

#[test]
fn the_checkpoints_of_a_run_that_was_killed_stay() {
    const TRAIN: &str =
        "@checkpoint(every = 10) t = train(text(\"data\"), steps = 100, pause = 2)\n";
    let world = World::new();
    let options = RunOptions::default();
    let mut stop = StopAt(50, options.stop.clone());
    let workflow = world.workflow(TRAIN);
    let engine = world.engine();
    let run = engine
        .run(&workflow, &options, &mut [&mut stop])
        .unwrap()
        .run;
    // What a kill leaves of the log.
    let log = engine.reader().log_path(&run);
    let text = fs::read_to_string(&log).unwrap();
    let is_end = |line: &&str| line.contains("stage_finished") || line.contains("run_finished");
    let lines: Vec<&str> = text.lines().filter(|line| !is_end(line)).collect();
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    collect(&world, &ALL);
    world.run(TRAIN);
    let steps = world.calls.take().get("step").copied().unwrap_or(0);
    assert!((1..=60).contains(&steps), "{steps} steps");
    let left = crate::corruption::files(&world.config.cache.join("checkpoints"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn who_waits_is_told_for_whom() {
    let world = World::new();
    world.run(&chain("one"));
    let mut holders = Vec::new();
    let disk = Disk::default();
    let open = Cache::open(
        &world.config.cache,
        IndexKind::Memory,
        disk,
        Access::Run,
        |_| false,
    );
    let opened = open.unwrap();
    let keep_waiting = |holder: &Holder| {
        holders.push(holder.clone());
        false
    };
    let error = world
        .engine()
        .collect_while(&ALL, keep_waiting)
        .unwrap_err();
    drop(opened);
    assert!(holders[0].is_this());
    let start = format!(
        "the cache {} is in use by process {} on ",
        world.config.cache.display(),
        std::process::id()
    );
    assert!(error.to_string().starts_with(&start), "{error}");
}
