//! Isolated stages: what happens to their processes does not happen to the run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blip_engine::{Engine, Event, Isolation, Outcome, RunOptions, Status, Summary};

use crate::toy;
use crate::world::{Calls, EventRecorder, World, end, status};

/// Not a test: the main function of this program when it is started as a child.
#[test]
fn child() {
    let last = std::env::args().next_back().unwrap_or_default();
    if last.ends_with("job.json") {
        let code = blip_engine::isolate::run_child(&toy::ops(&Calls::default()), Path::new(&last));
        std::process::exit(i32::from(code));
    }
}

fn engine(world: &World) -> Engine {
    let program: PathBuf = std::env::current_exe().unwrap();
    let args = ["isolation::child", "--exact", "--nocapture"]
        .map(Into::into)
        .to_vec();
    world.engine().with_isolation(Isolation { program, args })
}

fn run(world: &World, text: &str) -> (Summary, Vec<Event>) {
    let mut recorder = EventRecorder::default();
    let options = RunOptions {
        keep_going: true,
        ..RunOptions::default()
    };
    let summary = engine(world)
        .run(&world.workflow(text), &options, &mut [&mut recorder])
        .unwrap();
    (summary, recorder.0)
}

#[test]
fn an_isolated_stage_gives_the_same_result() {
    let (isolated, in_process) = (World::new(), World::new());
    let text = |attribute: &str| {
        format!(
            "a = text(\"hello\")\n{attribute} b = upper(a)\nin = lines(\"*.txt\")\n\
             {attribute} out = shout(in)\nall = show(out)\n{attribute} t = train(b, steps = 30)\n"
        )
    };
    isolated.write("a.txt", "one\nbad\nthree\n");
    in_process.write("a.txt", "one\nbad\nthree\n");
    let (summary, events) = run(&isolated, &text("@isolate"));
    assert_eq!(summary.outcome, Outcome::Done, "{:#?}", summary.stages);
    let expected = in_process.run(&text(""));
    for stage in ["b", "out", "all", "t"] {
        assert_eq!(
            summary.results[stage].output, expected.results[stage].output,
            "{stage}"
        );
    }
    assert_eq!(end(&summary, "out").units, end(&expected, "out").units);
    let steps = events
        .iter()
        .filter(|event| matches!(event, Event::Metric { .. }));
    assert_eq!(steps.count(), 30, "events of a child arrive");
    let again = isolated.run(&text(""));
    assert!(
        again.stages.iter().all(|end| end.status == Status::Reused),
        "isolation is not in the key"
    );
    assert_eq!(
        isolated.run(&text("").replace("30", "40")).outcome,
        Outcome::Done
    );
    assert_eq!(
        isolated.calls.take().get("step"),
        Some(&10),
        "it resumes from the warm start of a child"
    );
}

#[test]
fn an_abort_is_survived() {
    let world = World::new();
    let (summary, _) = run(&world, "@isolate a = crashing()\nb = text(\"b\")\n");
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(error.what, "the process of `a` aborted");
    assert_eq!(
        error.help,
        "look at what it wrote to the terminal; if memory ran out, give it less work at a time"
    );
    assert_eq!(status(&summary, "b"), Status::Ran);
}

#[test]
fn a_panic_in_a_child_is_reported_as_a_bug_too() {
    let (summary, _) = run(&World::new(), "@isolate a = panicking()\n");
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(
        error.what,
        "op `panicking` panicked: an index is out of bounds"
    );
}

#[test]
fn a_timeout_stops_a_child_that_ignores_the_stop_signal() {
    let world = World::new();
    let started = Instant::now();
    let (summary, _) = run(&world, "@isolate @timeout(100ms) a = stubborn()\n");
    assert!(started.elapsed() < Duration::from_secs(60));
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(error.what, "it exceeded its timeout of 100ms");
}

#[test]
fn a_child_that_exceeds_its_memory_is_stopped_and_others_are_not() {
    let world = World::new();
    let started = Instant::now();
    let text = "@isolate @memory(128MiB) greedy = hungry(400)\n\
                @isolate @memory(128MiB) modest = hungry(20)\n";
    let (summary, _) = run(&world, text);
    assert!(started.elapsed() < Duration::from_secs(30));
    let error = end(&summary, "greedy").error.clone().unwrap();
    let took = error
        .what
        .strip_prefix("it used ")
        .and_then(|rest| rest.split_once("MiB of memory, more than its "));
    let (took, limit) = took.unwrap_or_else(|| panic!("{}", error.what));
    assert!(
        (129..1000).contains(&took.parse::<u64>().unwrap()) && limit == "@memory(128MiB)",
        "{}",
        error.what
    );
    assert_eq!(error.help, "raise @memory, or give it less work at a time");
    assert_eq!(status(&summary, "modest"), Status::Ran);
}

#[test]
fn a_program_that_cannot_isolate_warns() {
    let world = World::new();
    let (summary, events) = world.run_with("@isolate a = text(\"a\")\n", &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Done);
    let warned = events.iter().any(|event| {
        matches!(event, Event::Warning { text, .. }
            if text == "@isolate has no effect: this program cannot start a process for a stage")
    });
    assert!(warned);
}
