//! Nothing runs twice, nothing stale is reused, and a stage that gives equal bytes leaves
//! everything downstream up to date, within the run.

use std::fs;
use std::path::Path;

use blip_engine::cache::disk::Disk;
use blip_engine::cache::{Access, Cache};
use blip_engine::{Engine, IndexKind, Outcome, RunOptions, Status};

use crate::world::{World, counts, end, status};

const CHAIN: &str = "a = text(\"hello\")\nb = upper(a)\nc = length(b)\n";

#[test]
fn a_second_run_runs_nothing() {
    let world = World::new();
    assert_eq!(
        world.calls_of(CHAIN),
        counts([("text", 1), ("upper", 1), ("length", 1)])
    );
    let again = world.run(CHAIN);
    assert_eq!(world.calls.take(), counts([]));
    assert!(again.stages.iter().all(|end| end.status == Status::Reused));
    assert_eq!(world.text(&again, "c"), "5");
}

#[test]
fn a_prefetch_for_another_workflow_is_not_used() {
    let world = World::new();
    world.run(CHAIN);
    let prefetch = Some(world.engine().prefetch("other.blip"));
    let (again, _) = world.run_with(
        CHAIN,
        &RunOptions {
            prefetch,
            ..RunOptions::default()
        },
    );
    assert!(again.stages.iter().all(|end| end.status == Status::Reused));
}

#[test]
fn a_prefetch_releases_the_cache_with_its_run() {
    let world = World::new();
    world.run(CHAIN);
    let prefetch = world.engine().prefetch("toy.blip");
    let (again, _) = world.run_with(
        CHAIN,
        &RunOptions {
            prefetch: Some(prefetch.clone()),
            ..RunOptions::default()
        },
    );
    assert!(again.stages.iter().all(|end| end.status == Status::Reused));
    Cache::open(
        &world.config.cache,
        IndexKind::Memory,
        Disk::default(),
        Access::Exclusive,
        |_| false,
    )
    .expect("the prefetch ends with the run");
    drop(prefetch);
}

#[test]
fn removed_stages_leave_the_ledger_even_if_nothing_else_is_new() {
    let world = World::new();
    world.run(CHAIN);
    assert_eq!(
        world.calls_of("a = text(\"hello\")\nb = upper(a)\n"),
        counts([])
    );
    let ledger = world.engine().reader().ledger("toy.blip");
    assert_eq!(
        ledger.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["a", "b"]
    );
    // Here `b` is only another name of the same stage.
    world.run("a = text(\"hello\")\nb = text(\"hello\")\n");
    let ledger = world.engine().reader().ledger("toy.blip");
    assert_eq!(
        ledger.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["a"]
    );
}

#[test]
fn steps_have_unique_names() {
    let world = World::new();
    let text = "p = pair(upper(text(\"x\")))\n";
    let workflow = world.workflow(text);
    let graph = &workflow.graph;
    assert_eq!(graph.names(), ["p", "p/text", "p/upper", "p/upper.2"]);
    let inputs = |name: &str| -> Vec<&str> {
        graph
            .inputs(graph.find(name).unwrap())
            .iter()
            .map(|(_, input)| &*graph.node(*input).name)
            .collect()
    };
    assert_eq!(
        (inputs("p/upper"), inputs("p/upper.2"), inputs("p")),
        (vec!["p/text"], vec!["p/upper"], vec!["p/upper.2"])
    );
    assert_eq!(world.run(text).results.len(), 4);
}

#[test]
fn names_order_comments_and_arguments_not_in_the_key_do_not_matter() {
    let world = World::new();
    world.run(CHAIN);
    let renamed = "# counts\nlast   = length(first)\nfirst = upper(start, threads = 8)\n\
                   start = text(\"hello\")\n";
    assert_eq!(world.calls_of(renamed), counts([]));
}

#[test]
fn attributes_do_not_matter() {
    let world = World::new();
    world.run(CHAIN);
    let with_attributes = "@retries(2) @timeout(1h) a = text(\"hello\")\n@cpu(1) b = upper(a)\n\
                           @memory(1MiB) c = length(b)\n";
    assert_eq!(world.calls_of(with_attributes), counts([]));
}

#[test]
fn another_workflow_shares_results() {
    let world = World::new();
    world.run(CHAIN);
    assert_eq!(world.calls_of("x = upper(text(\"hello\"))\n"), counts([]));
}

#[test]
fn equal_bytes_leave_downstream_stages_up_to_date_within_the_run() {
    let world = World::new();
    let with =
        |word: &str| format!("a = text(\"{word}\")\nb = length(a)\nc = upper(b)\nd = join(c, c)\n");
    world.run(&with("hello"));
    let summary = world.run(&with("world"));
    assert_eq!(world.calls.take(), counts([("text", 1), ("length", 1)]));
    let ends = ["a", "b", "c", "d"].map(|stage| status(&summary, stage));
    assert_eq!(
        ends,
        [Status::Ran, Status::Ran, Status::UpToDate, Status::UpToDate]
    );
    assert_eq!(end(&summary, "d").count, None);
}

#[test]
fn contents_of_files_are_in_the_key_and_times_and_names_are_not() {
    let world = World::new();
    world.write("one.txt", "hello");
    let text = |path: &str| format!("a = file(\"{path}\")\nb = upper(a)\n");
    world.run(&text("one.txt"));
    world.write("one.txt", "hello");
    world.write("two.txt", "hello");
    assert_eq!(
        world.calls_of(&text("one.txt")),
        counts([]),
        "written again with equal bytes"
    );
    assert_eq!(world.calls_of(&text("two.txt")), counts([]), "another name");
    world.write("one.txt", "HELLO");
    assert_eq!(
        world.calls_of(&text("one.txt")),
        counts([("file", 1), ("upper", 1)])
    );
    let summary = world.run(&text("one.txt"));
    assert_eq!(world.text(&summary, "b"), "HELLO");
}

#[test]
fn the_machine_is_in_the_key_of_numeric_ops_only() {
    let mut world = World::new();
    let text = "a = text(\"hello\")\nb = machine(a)\n";
    world.run(text);
    world.config.env.fields = vec![("threads".to_owned(), "4".to_owned())];
    assert_eq!(world.calls_of(text), counts([("machine", 1)]));
}

#[test]
fn composed_ops_are_stages_of_their_own() {
    let world = World::new();
    world.run("a = upper(text(\"hello\"))\n");
    let summary = world.run("p = pair(text(\"hello\"))\n");
    assert_eq!(
        world.calls.take(),
        counts([("length", 1)]),
        "the first step was cached by another workflow"
    );
    assert_eq!(status(&summary, "p/upper"), Status::Reused);
    assert_eq!(world.text(&summary, "p"), "5");
}

#[test]
fn only_targets_and_their_inputs_run() {
    let world = World::new();
    let options = RunOptions {
        targets: vec!["b".to_owned()],
        ..RunOptions::default()
    };
    let (summary, _) = world.run_with(CHAIN, &options);
    assert_eq!(world.calls.take(), counts([("text", 1), ("upper", 1)]));
    assert_eq!(summary.outcome, Outcome::Done);
    let options = RunOptions {
        targets: vec!["nope".to_owned()],
        ..RunOptions::default()
    };
    let error = world
        .engine()
        .run(&world.workflow(CHAIN), &options, &mut [])
        .unwrap_err();
    assert_eq!(error.to_string(), "no stage or export named `nope`");
    assert_eq!(error.help(), "the workflow has a, b, c");
}

/// A run that has nothing to do takes results from the ledger, and checks that they exist.
#[test]
fn missing_and_empty_files_are_recomputed_and_nothing_else() {
    let world = World::new();
    let text = format!("{CHAIN}export c as txt \"c.txt\"\n");
    let first = world.run(&text);
    let empty = |path: &Path| fs::write(path, "").unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let turn_into_folder = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    let ways: [&dyn Fn(&Path); 3] = [&remove, &empty, &turn_into_folder];
    // Needed upstream, needed by a target, and a target that is exported.
    for (stage, op) in [("a", "text"), ("b", "upper"), ("c", "length")] {
        let result = first.results.get(stage).unwrap();
        for (folder, path) in [
            ("objects", world.object_path(&result.output)),
            ("results", world.record_path(&result.key)),
        ] {
            for (number, way) in ways.iter().enumerate() {
                way(&path);
                assert_eq!(
                    world.calls_of(&text),
                    counts([(op, 1)]),
                    "{folder} of {stage}, way {number}"
                );
                assert_eq!(
                    world.calls_of(&text),
                    counts([]),
                    "{folder} of {stage}, way {number}"
                );
            }
        }
    }
    assert_eq!(world.read("c.txt"), "5");
}

#[test]
fn a_corrupt_result_is_detected_when_it_is_read_and_recomputed() {
    let world = World::new();
    let first = world.run(CHAIN);
    let object = first.results.get("b").unwrap().output;
    fs::write(world.object_path(&object), "HELLO?").unwrap();
    let longer = format!("{CHAIN}d = join(b, c)\n");
    let summary = world.run(&longer);
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(world.calls.take(), counts([("join", 2), ("upper", 1)]));
    assert_eq!(world.text(&summary, "d"), "HELLO5");
}

#[test]
fn two_engines_work_in_one_process() {
    let (one, two) = (World::new(), World::new());
    std::thread::scope(|scope| {
        for world in [&one, &two] {
            scope.spawn(|| assert_eq!(world.calls_of(CHAIN).len(), 3));
        }
    });
    let engine: Engine = one.engine();
    let same = one.engine();
    std::thread::scope(|scope| {
        for engine in [&engine, &same] {
            let workflow = one.workflow(CHAIN);
            scope.spawn(move || {
                engine
                    .run(&workflow, &RunOptions::default(), &mut [])
                    .unwrap()
            });
        }
    });
    assert_eq!(one.calls.take(), counts([]));
}
