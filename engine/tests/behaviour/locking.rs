//! `blip.lock` stores the results of a workflow; a locked run gives the same or says where it
//! deviates.

use blip_engine::diff::diff;
use blip_engine::trace::ChromeTrace;
use blip_engine::{LockedWorkflow, Lockfile, Outcome, RunOptions, Status};

use crate::world::{World, counts, end, status};

const CHAIN: &str = "a = text(\"hello\")\nb = upper(a)\nc = length(b)\n";

fn lock(world: &World, text: &str) -> LockedWorkflow {
    let summary = world.run(text);
    world.engine().locked(&summary)
}

fn run(world: &World, text: &str, locked: &LockedWorkflow) -> blip_engine::Summary {
    let options = RunOptions {
        locked: Some(locked.clone()),
        ..RunOptions::default()
    };
    world.run_with(text, &options).0
}

#[test]
fn a_locked_run_refuses_to_deviate_and_says_where() {
    let world = World::new();
    let locked = lock(&world, CHAIN);
    assert_eq!(run(&world, CHAIN, &locked).outcome, Outcome::Done);
    let changed = CHAIN.replace("hello", "world");
    world.calls.take();
    let summary = run(&world, &changed, &locked);
    assert_eq!(summary.outcome, Outcome::Failed);
    assert_eq!(world.calls.take(), counts([]), "nothing ran");
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(
        error.what,
        "it does not match the lock file: argument value: \"hello\" -> \"world\""
    );
    assert_eq!(
        error.help,
        "undo the change, or run without --locked to accept it"
    );
    assert_eq!(status(&summary, "b"), Status::Skipped);
    let summary = run(&world, &format!("{CHAIN}d = upper(c)\n"), &locked);
    let error = end(&summary, "d").error.clone().unwrap();
    assert_eq!(error.what, "the lock file has no entry for it");
}

#[test]
fn a_locked_run_on_an_empty_cache_gives_the_same_bytes_or_fails() {
    let (world, mut other_world) = (World::new(), World::new());
    let mut locked = lock(&world, CHAIN);
    assert_eq!(run(&other_world, CHAIN, &locked).outcome, Outcome::Done);
    other_world = World::new();
    let other = locked.stages["a"].output;
    locked.stages.get_mut("c").unwrap().output = other;
    let summary = run(&other_world, CHAIN, &locked);
    let error = end(&summary, "c").error.clone().unwrap();
    let given = world.run(CHAIN).results["c"].output.short();
    assert_eq!(
        error.what,
        format!(
            "its result is {given}, but the lock file has {}",
            other.short()
        )
    );
}

#[test]
fn the_lock_file_changes_where_a_result_does() {
    let world = World::new();
    let text = |locked: LockedWorkflow| {
        let mut file = Lockfile::default();
        file.workflows.insert("w".to_owned(), locked);
        file.text()
    };
    let before = text(lock(&world, CHAIN));
    let after = text(lock(&world, &CHAIN.replace("hello", "world")));
    let changed: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    assert_eq!(
        changed.len(),
        5,
        "key and output of `a` and `b`, and the key of `c`: its bytes are equal: {changed:#?}"
    );
}

#[test]
fn two_runs_are_compared_field_by_field() {
    let world = World::new();
    let text = "param word = \"hello\"\na = text(word)\nb = upper(a)\nc = length(b)\n";
    let first = world.run(text);
    let mut recorder = crate::world::EventRecorder::default();
    let workflow = world.workflow_set(&format!("{text}d = upper(c)\n"), &[("word", "world")]);
    let second = world
        .engine()
        .run(&workflow, &RunOptions::default(), &mut [&mut recorder])
        .unwrap();
    let reader = world.engine().reader();
    let log = |run: &str| reader.log(run).unwrap();
    let found = diff(&reader, &log(&first.run), &log(&second.run));
    assert_eq!(
        found
            .params
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["word: \"hello\" -> \"world\""]
    );
    assert_eq!(
        (found.only_old.len(), found.only_new),
        (0, vec!["d".into()])
    );
    let stages: Vec<(&str, bool)> = found
        .stages
        .iter()
        .map(|stage| (&*stage.stage, stage.other_result()))
        .collect();
    assert_eq!(stages, [("a", true), ("b", true), ("c", false)]);
    let fields: Vec<String> = found.stages[0]
        .fields
        .iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    assert_eq!(fields, ["argument value: \"hello\" -> \"world\""]);
    assert_eq!(diff(&reader, &log(&second.run), &log(&second.run)).same, 4);
}

#[test]
fn a_trace_has_a_bar_for_every_stage_that_ran() {
    let world = World::new();
    let path = world.folder.path().join("trace.json");
    for expected in [vec!["a", "b", "c"], vec![]] {
        let mut trace = ChromeTrace::create(&path).unwrap();
        world
            .engine()
            .run(
                &world.workflow(CHAIN),
                &RunOptions::default(),
                &mut [&mut trace],
            )
            .unwrap();
        trace.finish().unwrap();
        let events: Vec<serde_json::Value> =
            serde_json::from_str(&world.read("trace.json")).unwrap();
        let bars = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|event| event["name"].as_str().unwrap());
        assert_eq!(bars.collect::<Vec<_>>(), expected);
    }
}
