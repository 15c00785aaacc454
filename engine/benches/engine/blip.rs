//! The engine of this crate, in a child process of the benchmark.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blip_engine::digest::Digest;
use blip_engine::{
    Config, Engine, Graph, IndexKind, Item, MapOp, MapWorker, NumericEnv, Op, OpError, OpSet,
    Outcome, Output, Planned, PlannedAction, Resources, RunOptions, StageCtx, UnitResult, Work,
    Workflow,
};
use blip_grammar::{
    Arg, Arguments, Attributes, Program, Signature, Source, Span, Stage, StageId, Type, Value,
};

use crate::Shape;
use crate::table::Row;

const TEXT: Type = Type::Named("Text");
const ITEMS: Type = Type::Named("Items");

const WORKFLOW_NAME: &str = "bench.blip";
/// The most bytes that the language takes in a file; larger graphs are built by a program.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The text of a workflow of this shape; `edit` is the last stage's argument.
fn graph_text(shape: Shape, size: usize, edit: usize) -> String {
    let mut text = "s0 = step(0)\n".to_owned();
    for number in 1..size {
        let from = if shape == Shape::Chain { number - 1 } else { 0 };
        let value = if number + 1 == size { edit } else { number };
        let _ = writeln!(text, "s{number} = step({value}, s{from})");
    }
    text
}

/// The workflow of [`graph_text`] without the text.
fn build_workflow(shape: Shape, size: usize, edit: usize) -> Workflow {
    let attributes = Arc::new(Attributes::default());
    let mut stages = Vec::with_capacity(size);
    for number in 0..size {
        let from = match (number, shape) {
            (0, _) => Value::Absent,
            (_, Shape::Chain) => Value::Stage(stage_id(number - 1)),
            (_, Shape::Fan) => Value::Stage(stage_id(0)),
        };
        let value = if number + 1 == size { edit } else { number };
        let value = i64::try_from(value).expect("a graph has fewer stages");
        stages.push(Stage {
            name: format!("s{number}").into(),
            op: "step",
            args: Arguments::from([("value", Value::Int(value)), ("from", from)]),
            attributes: Arc::clone(&attributes),
            output: TEXT,
            span: Span::new(0, 0),
        });
    }
    let program = Program {
        params: Vec::new(),
        stages,
        exports: Vec::new(),
        aliases: BTreeMap::new(),
        default_targets: (0..size).map(stage_id).collect(),
    };
    let ops = ops();
    let graph = Graph::new(&program, &ops);
    Workflow {
        name: WORKFLOW_NAME.to_owned(),
        program,
        graph,
        diagnostics: Vec::new(),
        ops,
    }
}

fn stage_id(number: usize) -> StageId {
    StageId(u32::try_from(number).expect("a graph has fewer stages"))
}

/// Cold, no-op, a plan of nothing to do, and changed for one graph.
pub(crate) fn measure_stages(shape: Shape, size: usize) -> Row {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let size_arg = size.to_string();
    let run = |edit: usize| {
        let args = [shape.name(), &size_arg, &edit.to_string()];
        time_child(&args, folder.path())
    };
    let (cold, cold_note) = run(size);
    // The first run without work still writes what the next ones read.
    let (_, _) = run(size);
    let (noop, note) = fastest(|| run(size));
    let plan_args = [shape.name(), &size_arg, &size_arg, "plan"];
    let (plan, _) = time_child(&plan_args, folder.path());
    let (changed, _) = run(size + 1);
    let times = vec![
        ("cold", Some(cold)),
        ("no-op", Some(noop)),
        ("plan", Some(plan)),
        ("changed", Some(changed)),
    ];
    let note = format!("cold: {cold_note}; no-op: {note}");
    Row {
        engine: "blip",
        graph: format!("{} {size}", shape.name()),
        times,
        note,
    }
}

/// A map over many items: cold, with nothing changed, one item changed, and re-sharded.
pub(crate) fn measure_map(items: usize) -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let items_arg = items.to_string();
    let run =
        |edit: &str, shards: &str| time_child(&["map", &items_arg, edit, shards], folder.path());
    let (cold, cold_note) = run("0", "1000");
    let (_, _) = run("0", "1000");
    let (noop, note) = fastest(|| run("0", "1000"));
    let (changed, changed_note) = run("1", "1000");
    let (sharded, sharded_note) = run("1", "777");
    let row = |name, time, note| Row {
        engine: "blip",
        graph: format!("map {items}"),
        times: vec![(name, time)],
        note,
    };
    vec![
        row("cold", Some(cold), cold_note),
        row("no-op", Some(noop), note),
        row("one item changed", Some(changed), changed_note),
        row("re-sharded", Some(sharded), sharded_note),
    ]
}

/// The fastest of some runs without work, where noise counts most: noise only adds.
fn fastest(run: impl Fn() -> (Duration, String)) -> (Duration, String) {
    (0..crate::NOOP_RUNS)
        .map(|_| run())
        .min()
        .expect("at least one run")
}

fn time_child(args: &[&str], folder: &Path) -> (Duration, String) {
    let program = std::env::current_exe().expect("the benchmark's own program");
    let started = Instant::now();
    let output = Command::new(program)
        .arg("child")
        .args(args)
        .current_dir(folder)
        .output()
        .expect("a child process");
    let took = started.elapsed();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (
        took,
        String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// `child chain|fan SIZE EDIT [plan]` or `child map ITEMS EDIT SHARDS`, in the folder that holds
/// the cache.
#[expect(clippy::print_stdout, reason = "the parent process reads it")]
pub(crate) fn child(args: &[String]) -> ExitCode {
    let started = Instant::now();
    let engine = engine();
    let options = RunOptions {
        prefetch: Some(engine.prefetch(WORKFLOW_NAME)),
        ..RunOptions::default()
    };
    let workflow = workflow_of(args);
    let parsed = started.elapsed();
    let before_kb = resident_kb();
    if args.get(4).is_some_and(|arg| arg == "plan") {
        let plan = engine.plan(&workflow, &[]).expect("a plan");
        let is_reused = |planned: &Planned| planned.action == PlannedAction::Reuse;
        assert!(plan.iter().all(is_reused), "the run before did everything");
        return ExitCode::SUCCESS;
    }
    let summary = engine.run(&workflow, &options, &mut []).expect("a run");
    let failed = summary.stages.iter().find(|end| end.error.is_some());
    assert_eq!(summary.outcome, Outcome::Done, "{failed:?}");
    let ran = started.elapsed() - parsed;
    let peak_kb = peak_kb();
    println!(
        "parse {:.3} s, run {:.3} s, peak {} MB, of it run {} MB",
        parsed.as_secs_f64(),
        ran.as_secs_f64(),
        peak_kb / 1024,
        peak_kb.saturating_sub(before_kb) / 1024
    );
    // The kernel reclaims a process's memory faster than its destructors do.
    std::mem::forget((workflow, summary));
    ExitCode::SUCCESS
}

fn engine() -> Engine {
    Engine::new(Config {
        cache: "cache".into(),
        base: ".".into(),
        index: IndexKind::Sled,
        resources: Resources {
            cpu: 2,
            gpu: 0,
            memory: 1 << 30,
        },
        env: NumericEnv { fields: Vec::new() },
    })
}

fn workflow_of(args: &[String]) -> Workflow {
    let number = |at: usize| {
        args.get(at)
            .and_then(|arg| arg.parse::<usize>().ok())
            .expect("a number")
    };
    let shape = match args.get(1).map(String::as_str) {
        Some("chain") => Shape::Chain,
        Some("fan") => Shape::Fan,
        _ => {
            let (items, edit, shards) = (number(2), number(3), number(4));
            let text = format!("in = items({items}, {edit}, shards = {shards})\nout = twice(in)\n");
            return parse(text);
        }
    };
    let (size, edit) = (number(2), number(3));
    let text = graph_text(shape, size, edit);
    if text.len() < TEXT_BYTES_MAX {
        parse(text)
    } else {
        build_workflow(shape, size, edit)
    }
}

fn parse(text: String) -> Workflow {
    let source = Source::new(WORKFLOW_NAME, text).expect("a text");
    Workflow::parse(&source, &ops(), &[]).expect("a valid workflow")
}

fn status_kb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or_default();
    line.split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or(0)
}

fn peak_kb() -> u64 {
    status_kb("VmHWM:")
}

fn resident_kb() -> u64 {
    status_kb("VmRSS:")
}

fn ops() -> OpSet {
    let step = Signature::stage("step", TEXT, "A few bytes.")
        .arg(Arg::required("value", Type::Int, "what"))
        .arg(Arg::optional("from", TEXT, "after what"));
    let step = Op::run(step, 1, |ctx| {
        let value = ctx.args().int("value")?;
        Ok(Output::of(
            ctx.put(format!("result of {value}").as_bytes())?,
        ))
    });
    let items = Signature::stage("items", ITEMS, "Items in shards.")
        .arg(Arg::required("count", Type::Int, "how many"))
        .arg(Arg::required("edit", Type::Int, "what the first one is"))
        .arg(Arg::required("shards", Type::Int, "how many"));
    let items = Op::run(items, 1, |ctx| {
        let (count, edit, shards) = (
            ctx.args().count("count")?,
            ctx.args().count("edit")?,
            ctx.args().count("shards")?,
        );
        let mut writer = ctx.dataset_writer();
        for shard in 0..shards {
            for number in (shard..count).step_by(usize::try_from(shards).unwrap_or(1)) {
                let number = if number == 0 { count + edit } else { number };
                let payload = format!("the caption of picture number {number}");
                writer.add(Digest::of(payload.as_bytes()), payload.into_bytes())?;
            }
        }
        writer.finish()
    });
    let twice =
        Signature::stage("twice", ITEMS, "Twice.").arg(Arg::required("items", ITEMS, "of what"));
    let twice = Op::map(twice, 1, |_| Ok(Box::new(Twice)));
    OpSet::new().with(step).with(items).with(twice)
}

struct Twice;

impl MapOp for Twice {
    fn input_arg(&self) -> &'static str {
        "items"
    }

    fn units(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        Ok(vec![item.id])
    }

    fn batch(&self) -> usize {
        64
    }

    fn worker(&self, _: &StageCtx) -> Result<Box<dyn MapWorker>, OpError> {
        Ok(Box::new(Twice))
    }

    fn assemble(&self, _: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError> {
        match results.first() {
            Some(UnitResult::Ok(bytes)) => Ok(bytes.clone()),
            _ => Err(OpError::Bug("a unit without a result".to_owned())),
        }
    }
}

impl MapWorker for Twice {
    fn process(&mut self, _: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError> {
        Ok(work
            .iter()
            .map(|work| vec![UnitResult::Ok(work.item.payload.repeat(2))])
            .collect())
    }
}
