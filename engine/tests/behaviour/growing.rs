//! Work that grows costs its own part: what was done before is not done again.

use blip_engine::{Outcome, Resources, RunOptions};

use crate::world::{World, counts, end};

const MAP: &str = "in = lines(\"*.txt\")\nout = shout(in)\nall = show(out)\n";

#[test]
fn more_steps_go_on_where_fewer_ended() {
    let (world, clean) = (World::new(), World::new());
    let text = |steps: u64| {
        format!("@checkpoint(every = 10) t = train(text(\"data\"), steps = {steps})\n")
    };
    world.run(&text(40));
    let summary = world.run(&text(100));
    assert_eq!(world.calls.take(), counts([("step", 60)]));
    assert_eq!(*end(&summary, "t").notes, ["went on from steps = 40"]);
    let undisturbed = clean.run(&text(100));
    assert_eq!(world.text(&summary, "t"), clean.text(&undisturbed, "t"));
    assert_eq!(world.calls_of(&text(130)), counts([("step", 30)]));
    assert_eq!(
        world.calls_of(&text(70)),
        counts([("step", 30)]),
        "from the largest that is smaller"
    );
    assert_eq!(world.calls_of(&text(40)), counts([]));
}

#[test]
fn other_rates_and_data_begin_anew() {
    let world = World::new();
    world.run("t = train(text(\"data\"), steps = 40)\n");
    assert_eq!(
        world.calls_of("t = train(text(\"data\"), steps = 50, rate = 0.1)\n"),
        counts([("step", 50)])
    );
    assert_eq!(
        world.calls_of("t = train(text(\"other\"), steps = 50)\n"),
        counts([("text", 1), ("step", 50)])
    );
}

#[test]
fn more_results_of_an_item_cost_the_new_ones() {
    let (world, clean) = (World::new(), World::new());
    let lines = "one\ntwo\nthree\n";
    world.write("a.txt", lines);
    clean.write("a.txt", lines);
    world.run(MAP);
    let three = MAP.replace("shout(in)", "shout(in, copies = 3)");
    let warm_start = world.run(&three);
    assert_eq!(
        world.calls.take(),
        counts([("load", 1), ("unit", 6), ("show", 1)])
    );
    let at_once = clean.run(&three);
    assert_eq!(world.text(&warm_start, "all"), clean.text(&at_once, "all"));
    let two = MAP.replace("shout(in)", "shout(in, copies = 2)");
    assert_eq!(
        world.calls_of(&two),
        counts([("show", 1)]),
        "fewer need no work"
    );
}

#[test]
fn another_cheap_argument_below_runs_only_what_is_below() {
    let world = World::new();
    world.write("a.txt", "one\ntwo\n");
    let text = |mark: &str| format!("{MAP}t = text(\"{mark}\")\njoined = join(all, t)\n");
    world.run(&text("a"));
    assert_eq!(
        world.calls_of(&text("b")),
        counts([("text", 1), ("join", 1)])
    );
    let merged = format!("{}more = join(joined, all)\n", text("b"));
    assert_eq!(world.calls_of(&merged), counts([("join", 1)]));
}

#[test]
fn more_shards_cost_their_own_items() {
    let world = World::new();
    world.write("a.txt", "one\ntwo\n");
    world.run(MAP);
    world.write("b.txt", "three\n");
    assert_eq!(
        world.calls_of(MAP),
        counts([("lines", 1), ("load", 1), ("unit", 1), ("show", 1)])
    );
}

#[test]
fn other_resources_cost_nothing() {
    let mut world = World::new();
    world.write("a.txt", "one\ntwo\n");
    world.run(MAP);
    world.config.resources = Resources {
        cpu: 1,
        gpu: 0,
        memory: 1 << 20,
    };
    assert_eq!(
        world.calls_of(&format!("@cpu(1) @memory(1KiB) {MAP}")),
        counts([])
    );
}

#[test]
fn the_company_in_a_batch_leaves_no_trace() {
    let (together, apart) = (World::new(), World::new());
    together.write("a.txt", "one\ntwo\nthree\nfour\nfive\n");
    for lines in [
        "five\n",
        "five\none\n",
        "five\none\nthree\ntwo\n",
        "one\ntwo\nthree\nfour\nfive\n",
    ] {
        apart.write("a.txt", lines);
        apart.run(MAP);
    }
    let (together, apart) = (together.run(MAP), apart.run(MAP));
    assert_eq!(
        together.results.get("out").unwrap().output,
        apart.results.get("out").unwrap().output
    );
}

#[test]
fn items_that_could_not_be_used_are_tried_again_when_asked() {
    let world = World::new();
    world.write("a.txt", "good\nbad\nfine\n");
    world.run(MAP);
    assert_eq!(world.calls_of(MAP), counts([]));
    world.write("b.txt", "new\n");
    assert_eq!(
        world.calls_of(MAP).get("unit"),
        Some(&1),
        "the reason is remembered"
    );
    let options = RunOptions {
        retry_bad: true,
        ..RunOptions::default()
    };
    let (summary, _) = world.run_with(MAP, &options);
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(world.calls.take(), counts([("load", 1), ("unit", 1)]));
}
