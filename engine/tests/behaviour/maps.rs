//! Map stages work item by item: the result for an item depends on that item only.

use blip_engine::{Outcome, PlannedAction, Status};

use crate::world::{World, counts, end, status};

const MAP: &str = "in = lines(\"*.txt\")\nout = shout(in)\nall = show(out)\n";

fn numbered(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

#[test]
fn one_changed_item_costs_one_unit() {
    let world = World::new();
    world.write("a.txt", &numbered(0..1000));
    let first = world.run(MAP);
    assert_eq!(
        world.calls.take(),
        counts([("lines", 1), ("load", 1), ("unit", 1000), ("show", 1)])
    );
    world.write(
        "a.txt",
        &numbered(0..1000).replace("line 500\n", "line five hundred\n"),
    );
    let second = world.run(MAP);
    assert_eq!(
        world.calls.take(),
        counts([("lines", 1), ("load", 1), ("unit", 1), ("show", 1)])
    );
    let units = end(&second, "out").units.as_ref().unwrap();
    assert_eq!(
        (units.total, units.reused, units.computed, units.bad),
        (1000, 999, 1, 0)
    );
    let changed = world
        .text(&first, "all")
        .replace("LINE 500!0", "LINE FIVE HUNDRED!0");
    let mut expected: Vec<&str> = changed.lines().collect();
    expected.sort_unstable();
    assert_eq!(world.text(&second, "all"), expected.join("\n"));
}

#[test]
fn shards_and_order_do_not_matter() {
    let world = World::new();
    world.write("a.txt", &numbered(0..600));
    world.run(MAP);
    let mut lines: Vec<String> = numbered(0..600)
        .lines()
        .map(|line| format!("{line}\n"))
        .collect();
    lines.reverse();
    world.write("a.txt", &lines[..7].concat());
    world.write("b.txt", &lines[7..400].concat());
    world.write("c.txt", &lines[400..].concat());
    let summary = world.run(MAP);
    assert_eq!(world.calls.take(), counts([("lines", 1)]));
    assert_eq!(status(&summary, "out"), Status::UpToDate);
    assert_eq!(status(&summary, "all"), Status::UpToDate);
}

#[test]
fn incremental_and_clean_runs_give_equal_bytes() {
    let (incremental, clean) = (World::new(), World::new());
    for end in [10, 300, 301, 700] {
        incremental.write("a.txt", &numbered(0..end));
        incremental.run(MAP);
    }
    clean.write("a.txt", &numbered(0..700));
    let (incremental, clean) = (incremental.run(MAP), clean.run(MAP));
    assert_eq!(
        incremental.results.get("out").unwrap().output,
        clean.results.get("out").unwrap().output
    );
}

#[test]
fn the_plan_says_how_many_units_are_missing() {
    let world = World::new();
    world.write("a.txt", &numbered(0..20));
    world.run("in = lines(\"*.txt\")\n");
    let action = |world: &World, stage: &str| {
        world
            .plan(MAP)
            .into_iter()
            .find(|one| *one.stage == *stage)
            .unwrap()
            .action
    };
    let PlannedAction::Run { units, .. } = action(&world, "out") else {
        panic!("it is cached")
    };
    assert_eq!(units, Some((20, 20)));
    world.run(MAP);
    assert_eq!(action(&world, "out"), PlannedAction::Reuse);
    world.write("a.txt", &numbered(0..25));
    world.run("in = lines(\"*.txt\")\n");
    let PlannedAction::Run { units, .. } = action(&world, "out") else {
        panic!("it is cached")
    };
    assert_eq!(units, Some((5, 25)));
}

#[test]
fn unusable_items_are_rejected_and_counted() {
    let world = World::new();
    world.write("a.txt", "good\nbad\nfine\n");
    let summary = world.run(MAP);
    assert_eq!(summary.outcome, Outcome::Done);
    let end = end(&summary, "out");
    assert_eq!((end.rejected, end.units.as_ref().unwrap().bad), (1, 1));
    assert_eq!(world.text(&summary, "all"), "-\nFINE!0\nGOOD!0");
}

#[test]
fn a_map_that_rejects_all_items_fails() {
    let world = World::new();
    world.write("a.txt", "bad one\nbad two\n");
    let summary = world.run(MAP);
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = end(&summary, "out").error.clone().unwrap();
    assert!(
        error
            .what
            .starts_with("rejected all 2 items; first reason: `bad "),
        "{}",
        error.what
    );
    assert_eq!(
        error.help,
        "check a few items: the input is not what this op expects"
    );
}

#[test]
fn an_empty_dataset_is_a_result() {
    let world = World::new();
    world.write("a.txt", "");
    let summary = world.run(MAP);
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(world.calls.take(), counts([("lines", 1), ("show", 1)]));
    assert_eq!(end(&summary, "out").count, Some(0));
}
