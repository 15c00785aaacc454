//! Map stages work item by item: what an item's result depends on is the item.

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
fn other_shards_and_another_order_leave_no_trace() {
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
fn partly_known_and_clean_runs_give_equal_bytes() {
    let (warm_start, clean) = (World::new(), World::new());
    for end in [10, 300, 301, 700] {
        warm_start.write("a.txt", &numbered(0..end));
        warm_start.run(MAP);
    }
    clean.write("a.txt", &numbered(0..700));
    let (warm_start, clean) = (warm_start.run(MAP), clean.run(MAP));
    assert_eq!(
        warm_start.results.get("out").unwrap().output,
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
        panic!("it is known already")
    };
    assert_eq!(units, Some((20, 20)));
    world.run(MAP);
    assert_eq!(action(&world, "out"), PlannedAction::Reuse);
    world.write("a.txt", &numbered(0..25));
    world.run("in = lines(\"*.txt\")\n");
    let PlannedAction::Run { units, .. } = action(&world, "out") else {
        panic!("it is known already")
    };
    assert_eq!(units, Some((5, 25)));
}

#[test]
fn items_that_cannot_be_used_are_put_aside_and_listed() {
    let world = World::new();
    world.write("a.txt", "good\nbad\nfine\n");
    let summary = world.run(MAP);
    assert_eq!(summary.outcome, Outcome::Done);
    let end = end(&summary, "out");
    assert_eq!((end.rejected, end.units.as_ref().unwrap().bad), (1, 1));
    assert_eq!(world.text(&summary, "all"), "-\nFINE!0\nGOOD!0");
}

#[test]
fn a_map_without_one_good_item_fails() {
    let world = World::new();
    world.write("a.txt", "bad one\nbad two\n");
    let summary = world.run(MAP);
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = end(&summary, "out").error.clone().unwrap();
    assert!(
        error
            .what
            .starts_with("none of the 2 items could be used; the first: `bad "),
        "{}",
        error.what
    );
    assert_eq!(
        error.help,
        "the input is not what this op needs: look at a few of its items"
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
