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
    Outcome, Output, PlannedAction, Resources, RunOptions, StageCtx, UnitResult, Work, Workflow,
};
use blip_grammar::{
    Arg, Arguments, Attributes, Program, Signature, Source, Span, Stage, StageId, Type, Value,
};

use crate::Shape;
use crate::table::Row;

const TEXT: Type = Type::Named("Text");
const ITEMS: Type = Type::Named("Items");

/// The workflow's.
const NAME: &str = "bench.blip";

/// The workflow of a shape; `edit` is the last stage's argument.
fn text(shape: Shape, size: usize, edit: usize) -> String {
    let mut text = "s0 = step(0)\n".to_owned();
    for number in 1..size {
        let from = if shape == Shape::Chain { number - 1 } else { 0 };
        let value = if number + 1 == size { edit } else { number };
        let _ = writeln!(text, "s{number} = step({value}, s{from})");
    }
    text
}

/// The language takes files of up to so many bytes; larger graphs are built by a program.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The same workflow without the text.
fn built(shape: Shape, size: usize, edit: usize) -> Workflow {
    let none = Arc::new(Attributes::default());
    let number = |number: usize| u32::try_from(number).expect("a graph has fewer stages");
    let stage = |at: usize| {
        let from = match (at, shape) {
            (0, _) => Value::Absent,
            (_, Shape::Chain) => Value::Stage(StageId(number(at - 1))),
            (_, Shape::Fan) => Value::Stage(StageId(0)),
        };
        let value = if at + 1 == size { edit } else { at };
        let args = Arguments::from([
            ("value", Value::Int(i64::from(number(value)))),
            ("from", from),
        ]);
        let (args, op, attributes, span) = (args, "step", Arc::clone(&none), Span::new(0, 0));
        Stage {
            name: format!("s{at}").into(),
            op,
            args,
            attributes,
            output: TEXT,
            span,
        }
    };
    let program = Program {
        params: Vec::new(),
        stages: (0..size).map(stage).collect(),
        exports: Vec::new(),
        aliases: BTreeMap::new(),
        default_targets: (0..size).map(|at| StageId(number(at))).collect(),
    };
    let ops = ops();
    let graph = Graph::new(&program, &ops);
    Workflow {
        name: NAME.to_owned(),
        program,
        graph,
        diagnostics: Vec::new(),
        ops,
    }
}

/// Cold, no-op, changed and the plan of nothing to do for one graph.
pub(crate) fn stages(shape: Shape, size: usize) -> Row {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |edit: usize| {
        child_time(
            &[shape.name(), &size.to_string(), &edit.to_string()],
            folder.path(),
        )
    };
    let (cold, cold_note) = run(size);
    let (_, _) = run(size);
    let (noop, note) = best(|| run(size));
    let (plan, _) = child_time(
        &[shape.name(), &size.to_string(), &size.to_string(), "plan"],
        folder.path(),
    );
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
pub(crate) fn map(items: usize) -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |edit: &str, shards: &str| {
        child_time(&["map", &items.to_string(), edit, shards], folder.path())
    };
    let (cold, cold_note) = run("0", "1000");
    let (_, _) = run("0", "1000");
    let (noop, note) = best(|| run("0", "1000"));
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

/// The quickest of some runs that find nothing to do, where noise counts most: it only adds.
fn best(run: impl Fn() -> (Duration, String)) -> (Duration, String) {
    (0..crate::NOOPS)
        .map(|_| run())
        .min()
        .expect("at least one run")
}

fn child_time(args: &[&str], folder: &Path) -> (Duration, String) {
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
    let number = |at: usize| {
        args.get(at)
            .and_then(|arg| arg.parse::<usize>().ok())
            .expect("a number")
    };
    let started = Instant::now();
    let config = Config {
        cache: "cache".into(),
        base: ".".into(),
        index: IndexKind::Sled,
        resources: Resources {
            cpu: 2,
            gpu: 0,
            memory: 1 << 30,
        },
        env: NumericEnv { fields: Vec::new() },
    };
    let engine = Engine::new(config);
    let options = RunOptions {
        ahead: Some(engine.prefetch(NAME)),
        ..RunOptions::default()
    };
    let text = match args.get(1).map(String::as_str) {
        Some("chain") => text(Shape::Chain, number(2), number(3)),
        Some("fan") => text(Shape::Fan, number(2), number(3)),
        _ => format!(
            "in = items({}, {}, shards = {})\nout = twice(in)\n",
            number(2),
            number(3),
            number(4)
        ),
    };
    let workflow = if text.len() < TEXT_BYTES_MAX {
        let source = Source::new(NAME, text).expect("a text");
        Workflow::parse(&source, &ops(), &[]).expect("a right workflow")
    } else {
        let shape = if args.get(1).is_some_and(|arg| arg == "chain") {
            Shape::Chain
        } else {
            Shape::Fan
        };
        built(shape, number(2), number(3))
    };
    let parsed = started.elapsed();
    let before = resident_kb();
    if args.get(4).is_some_and(|arg| arg == "plan") {
        let plan = engine.plan(&workflow, &[]).expect("a plan");
        assert!(
            plan.iter()
                .all(|planned| planned.action == PlannedAction::Reuse),
            "the run before did everything"
        );
        return ExitCode::SUCCESS;
    }
    let summary = engine.run(&workflow, &options, &mut []).expect("a run");
    assert_eq!(
        summary.outcome,
        Outcome::Done,
        "{:?}",
        summary.stages.iter().find(|end| end.error.is_some())
    );
    let ran = started.elapsed() - parsed;
    let peak = peak_kb();
    println!(
        "parse {:.3} s, run {:.3} s, peak {} MB, of it run {} MB",
        parsed.as_secs_f64(),
        ran.as_secs_f64(),
        peak / 1024,
        peak.saturating_sub(before) / 1024
    );
    // What a process gives back at its end the kernel takes back faster.
    std::mem::forget((workflow, summary));
    ExitCode::SUCCESS
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
