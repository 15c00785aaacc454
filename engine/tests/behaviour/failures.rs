//! Failures: no finished result is lost, and the message says what to do.

use blip_engine::{Event, Outcome, RunOptions, Status};

use crate::world::{World, counts, end, status};

#[test]
fn a_failure_is_reported_with_the_stages_that_it_blocks() {
    let world = World::new();
    let summary = world.run("a = flaky(5)\nb = upper(a)\nc = length(b)\n");
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(
        (error.what.as_str(), error.help.as_str()),
        ("it does not work yet", "try once more")
    );
    let error = end(&summary, "c").error.clone().unwrap();
    assert_eq!(error.what, "its input `b` has no result");
    assert_eq!(error.help, "fix `b`, then run again");
    assert_eq!(status(&summary, "b"), Status::Skipped);
}

#[test]
fn retries_go_on_until_it_works() {
    let world = World::new();
    let (summary, events) = world.run_with("@retries(2) a = flaky(1)\n", &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Done);
    let again = events.iter().filter_map(|event| match event {
        Event::Retrying {
            what,
            attempt,
            wait_ms,
            ..
        } => Some((what.as_str(), *attempt, *wait_ms)),
        _ => None,
    });
    assert_eq!(
        again.collect::<Vec<_>>(),
        [("it does not work yet", 2, 1000)]
    );
    assert_eq!(world.calls.take(), counts([("flaky", 2)]));
}

#[test]
fn keep_going_runs_stages_that_do_not_need_the_failed_one() {
    let world = World::new();
    let text = "a = flaky(9)\nb = upper(a)\nc = text(\"c\")\nd = upper(c)\ne = length(d)\n";
    let options = RunOptions {
        keep_going: true,
        ..RunOptions::default()
    };
    let (summary, _) = world.run_with(text, &options);
    assert_eq!(summary.outcome, Outcome::Failed);
    assert_eq!(status(&summary, "e"), Status::Ran);
    assert_eq!(status(&summary, "b"), Status::Skipped);
    let again = world.run(text);
    assert!(
        ["c", "d", "e"]
            .iter()
            .all(|stage| matches!(status(&again, stage), Status::Reused | Status::Interrupted))
    );
}

#[test]
fn a_panic_is_reported_as_a_bug_and_the_run_continues() {
    let world = World::new();
    let options = RunOptions {
        keep_going: true,
        ..RunOptions::default()
    };
    let (summary, _) = world.run_with("a = panicking()\nb = text(\"b\")\n", &options);
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(
        error.what,
        "op `panicking` panicked: an index is out of bounds"
    );
    assert_eq!(error.help, "this is a bug in the op: please report it");
    assert_eq!(status(&summary, "b"), Status::Ran);
}

#[test]
fn a_timeout_stops_the_work() {
    let world = World::new();
    let summary = world.run("@timeout(50ms) a = waiting()\n");
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(error.what, "it exceeded its timeout of 50ms");
    assert_eq!(error.help, "raise @timeout, or find out why it is slow");
}

#[test]
fn a_stopped_run_reports_unfinished_stages_as_interrupted() {
    let world = World::new();
    let options = RunOptions::default();
    let stop = options.stop.clone();
    let calls = world.calls.clone();
    let summary = std::thread::scope(|scope| {
        scope.spawn(move || {
            while !calls.take().contains_key("waiting") {
                std::thread::yield_now();
            }
            stop.request();
        });
        world
            .run_with("a = text(\"a\")\nw = waiting()\nz = upper(w)\n", &options)
            .0
    });
    assert_eq!(summary.outcome, Outcome::Interrupted);
    assert_eq!(status(&summary, "w"), Status::Interrupted);
    assert_eq!(status(&summary, "z"), Status::Interrupted);
    assert_eq!(status(&world.run("a = text(\"a\")\n"), "a"), Status::Reused);
}

#[test]
fn a_missing_file_is_named() {
    let world = World::new();
    let summary = world.run("a = file(\"gone.txt\")\n");
    let error = end(&summary, "a").error.clone().unwrap();
    assert_eq!(
        error.what,
        format!(
            "there is no file {}",
            world.folder.path().join("gone.txt").display()
        )
    );
    assert_eq!(
        error.help,
        "check the path; it is relative to the workflow's folder"
    );
}

#[test]
fn max_bad_is_enforced() {
    let world = World::new();
    let good: String = (0..9).map(|number| format!("line {number}\n")).collect();
    world.write("a.txt", &format!("{good}bad\n"));
    let text = |share: &str| format!("in = lines(\"*.txt\")\n@max_bad({share}) out = shout(in)\n");
    let summary = world.run(&text("0.09"));
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = end(&summary, "out").error.clone().unwrap();
    assert_eq!(
        error.what,
        "rejected 1 of 10 items, more than @max_bad(0.09) allows; first reason: `bad` cannot be shouted"
    );
    assert_eq!(
        error.help,
        "fix the items, or raise @max_bad if that many may be left out"
    );
    world.calls.take();
    let summary = world.run(&text("0.1"));
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(world.calls.take(), counts([]), "computed units are cached");
}
