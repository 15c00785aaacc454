//! A plan predicts what the run does, and every changed field of a key is named.

use std::collections::BTreeSet;

use blip_engine::{Event, PlannedAction, RunOptions, Status};

use crate::world::{World, status};

/// Why a stage ran in a run.
fn why(world: &World, text: &str, stage: &str) -> Vec<String> {
    let (_, events) = world.run_with(text, &RunOptions::default());
    let found = events.into_iter().find_map(|event| match event {
        Event::StageStarted {
            stage: name, why, ..
        } if *name == *stage => Some(why),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{stage} did not run"))
}

#[test]
fn every_field_of_a_key_is_named_when_it_changes() {
    let mut world = World::new();
    world.write("f.txt", "one");
    let text = "a = text(\"hello\")\nm = machine(a)\nf = file(\"f.txt\")\n";
    assert_eq!(why(&world, text, "a"), ["no earlier result"]);
    let text = "a = text(\"hello\", size = 2.0)\nm = machine(a)\nf = file(\"f.txt\")\n";
    assert_eq!(why(&world, text, "a"), ["argument size: 1.0 -> 2.0"]);
    let text = "a = text(\"world\", size = 2.0)\nm = machine(a)\nf = file(\"f.txt\")\n";
    let reasons = why(&world, text, "m");
    assert_eq!(reasons.len(), 1);
    assert!(
        reasons[0].starts_with("input from: ea8f163db386 -> "),
        "{reasons:?}"
    );
    world.config.env.fields = vec![("threads".to_owned(), "4".to_owned())];
    assert_eq!(why(&world, text, "m"), ["machine threads: 2 -> 4"]);
    world
        .config
        .env
        .fields
        .push(("device".to_owned(), "cpu".to_owned()));
    assert_eq!(why(&world, text, "m"), ["machine device: cpu is new"]);
    world.config.env.fields.remove(0);
    assert_eq!(why(&world, text, "m"), ["machine threads: 4 is gone"]);
    world.write("f.txt", "two");
    let reasons = why(&world, text, "f");
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].starts_with("file: "), "{reasons:?}");
    let mut newer = world.ops.op("text").unwrap().as_ref().clone();
    newer.version = 2;
    world.ops = world.ops.clone().with(newer);
    assert_eq!(why(&world, text, "a"), ["op version: 1 -> 2"]);
    let text = "a = flaky(0)\nm = machine(a)\nf = file(\"f.txt\")\n";
    let reasons = why(&world, text, "a");
    assert!(
        reasons.contains(&"op: text -> flaky".to_owned()),
        "{reasons:?}"
    );
}

#[test]
fn a_removed_result_is_reported_as_removed() {
    let world = World::new();
    let text = "a = text(\"hello\")\n";
    world.run(text);
    std::fs::remove_dir_all(world.config.cache.join("objects")).unwrap();
    assert_eq!(
        why(&world, text, "a"),
        ["its result is no longer in the cache"]
    );
    std::fs::remove_dir_all(world.config.cache.join("results")).unwrap();
    assert_eq!(
        why(&world, text, "a"),
        ["its result is no longer in the cache"]
    );
}

#[test]
fn the_plan_predicts_what_the_run_does() {
    let world = World::new();
    let text = |first: &str, second: &str| {
        format!(
            "a = text(\"{first}\")\nb = text(\"{second}\")\nc = join(a, b)\nd = length(c)\ne = upper(b)\n"
        )
    };
    world.run(&text("1", "2"));
    for (first, second) in [("1", "2"), ("3", "2"), ("3", "4"), ("5", "6")] {
        let text = text(first, second);
        let plan = world.plan(&text);
        let summary = world.run(&text);
        for planned in plan {
            let status = status(&summary, &planned.stage);
            let expected: BTreeSet<&str> = match planned.action {
                PlannedAction::Reuse => ["reused"].into(),
                PlannedAction::Run { .. } => ["ran"].into(),
                PlannedAction::Unknown { .. } => ["ran", "up to date"].into(),
                PlannedAction::Error { what, .. } => panic!("{what}"),
            };
            let word = match status {
                Status::Ran => "ran",
                Status::Reused => "reused",
                Status::UpToDate => "up to date",
                other => panic!("{} is {other:?}", planned.stage),
            };
            assert!(
                expected.contains(word),
                "{} was planned as {expected:?} and {word}",
                planned.stage
            );
        }
    }
}

/// Neither reads the records of results in the ledger, so they agree about a corrupt one and about
/// a missing one.
#[test]
fn plan_and_run_rely_on_the_ledger_alike() {
    let world = World::new();
    let text = "a = text(\"hello\")\nb = upper(a)\nc = length(b)\n";
    let record = world.record_path(&world.run(text).results["b"].key);
    std::fs::write(&record, "corrupt").unwrap();
    assert!(
        world
            .plan(text)
            .iter()
            .all(|planned| planned.action == PlannedAction::Reuse && planned.key.is_some())
    );
    assert_eq!(status(&world.run(text), "b"), Status::Reused);
    std::fs::remove_file(&record).unwrap();
    let plan = world.plan(text);
    assert!(
        matches!(plan[1].action, PlannedAction::Run { .. }),
        "{:?}",
        plan[1].action
    );
    assert_eq!(
        plan[2].action,
        PlannedAction::Unknown {
            after: vec!["b".into()]
        }
    );
}
