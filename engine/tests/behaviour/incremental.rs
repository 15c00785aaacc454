//! More steps, items or results cost only what is new.

use blip_engine::{Outcome, Resources, RunOptions};

use crate::world::{World, counts, end};

const MAP: &str = "in = lines(\"*.txt\")\nout = shout(in)\nall = show(out)\n";

#[test]
fn more_steps_resume_where_fewer_ended() {
    let (world, clean) = (World::new(), World::new());
    let text = |steps: u64| {
        format!("@checkpoint(every = 10) t = train(text(\"data\"), steps = {steps})\n")
    };
    world.run(&text(40));
    let summary = world.run(&text(100));
    assert_eq!(world.calls.take(), counts([("step", 60)]));
    assert_eq!(*end(&summary, "t").notes, ["resumed from steps = 40"]);
    let undisturbed = clean.run(&text(100));
    assert_eq!(world.text(&summary, "t"), clean.text(&undisturbed, "t"));
    assert_eq!(world.calls_of(&text(130)), counts([("step", 30)]));
    assert_eq!(
        world.calls_of(&text(70)),
        counts([("step", 30)]),
        "from the largest smaller one"
    );
    assert_eq!(world.calls_of(&text(40)), counts([]));
}

#[test]
fn another_learning_rate_or_other_data_starts_from_step_0() {
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
fn more_results_of_an_item_cost_only_the_new_ones() {
    let (world, clean) = (World::new(), World::new());
    let lines = "one\ntwo\nthree\n";
    world.write("a.txt", lines);
    clean.write("a.txt", lines);
    world.run(MAP);
    let three = MAP.replace("shout(in)", "shout(in, copies = 3)");
    let extended = world.run(&three);
    assert_eq!(
        world.calls.take(),
        counts([("load", 1), ("unit", 6), ("show", 1)])
    );
    let at_once = clean.run(&three);
    assert_eq!(world.text(&extended, "all"), clean.text(&at_once, "all"));
    let two = MAP.replace("shout(in)", "shout(in, copies = 2)");
    assert_eq!(
        world.calls_of(&two),
        counts([("show", 1)]),
        "fewer need no work"
    );
}

#[test]
fn a_change_downstream_runs_only_stages_downstream_of_it() {
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
fn more_shards_cost_only_their_own_items() {
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
fn other_resources_change_no_key() {
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
fn a_result_does_not_depend_on_the_other_items_in_the_batch() {
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
fn retry_bad_retries_rejected_items() {
    let world = World::new();
    world.write("a.txt", "good\nbad\nfine\n");
    world.run(MAP);
    assert_eq!(world.calls_of(MAP), counts([]));
    world.write("b.txt", "new\n");
    assert_eq!(
        world.calls_of(MAP).get("unit"),
        Some(&1),
        "the rejection is cached"
    );
    let options = RunOptions {
        retry_bad: true,
        ..RunOptions::default()
    };
    let (summary, _) = world.run_with(MAP, &options);
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(world.calls.take(), counts([("load", 1), ("unit", 1)]));
}
