//! `blip status`: how far the newest run is and how earlier ones ended, from event logs alone, also
//! during a run.

use blip_engine::{Reader, Status as Ended};
use serde_json::json;

use crate::amounts::{count, took};
use crate::args::{Format, Status};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::Failure;
use crate::progress::lines::outcome_word;
use crate::table::Table;
use crate::view::RunView;
use crate::{cache_folder, summary};

/// Runs before the newest are listed up to this many.
const EARLIER_MAX: usize = 5;

/// Shows it.
pub(crate) fn run(args: &Status, console: &mut Console) -> Result<u8, Failure> {
    let (reader, runs) = cache_folder::open(&args.read.cache)?;
    let views: Vec<RunView> = runs
        .iter()
        .rev()
        .take(1 + EARLIER_MAX)
        .map(|run| view(&reader, run))
        .collect();
    let alive: Vec<u32> = reader.at_work().iter().map(|holder| holder.pid).collect();
    if args.format == Format::Json {
        views
            .iter()
            .for_each(|view| console.line(as_json(view, &alive)));
        return Ok(exit_code::DONE);
    }
    let Some((newest, earlier)) = views.split_first() else {
        return Ok(exit_code::DONE);
    };
    let (state, style) = state(newest, &alive);
    let began = cache_folder::age_ms(&newest.run)
        .map_or(String::new(), |age| format!(", began {} ago", took(age)));
    let name = format!("run {} of {}: ", newest.run, newest.workflow);
    console.pieces(&[
        (&name, Style::Plain),
        (&state, style),
        (&began, Style::Plain),
    ]);
    console.line("");
    let record = |key| reader.record(&key);
    summary::print(
        newest,
        |end| {
            end.key
                .and_then(record)
                .map_or(Vec::new(), |record| record.rejected)
        },
        console,
    );
    console.line("");
    console.line(summary::verdict(newest));
    if !earlier.is_empty() {
        console.line("\nearlier runs:");
        let mut table = Table::new(&[
            "run", "workflow", ">began", "result", ">ran", ">reused", ">failed",
        ]);
        earlier.iter().for_each(|view| table.row(row(view, &alive)));
        table.print(console, "  ");
    }
    Ok(exit_code::DONE)
}

/// A run whose log cannot be read is shown as one of which nothing is known.
fn view(reader: &Reader, run: &str) -> RunView {
    let mut view = RunView::default();
    match reader.log(run) {
        Ok(log) => log
            .events
            .iter()
            .for_each(|logged| view.apply(logged.at_ms, &logged.event)),
        Err(error) => tracing::warn!(run, %error, "an event log cannot be read"),
    }
    run.clone_into(&mut view.run);
    view
}

/// How a run stands, in words.
fn state(view: &RunView, alive: &[u32]) -> (String, Style) {
    match view.end {
        Some((outcome, _)) => {
            let style = if outcome == blip_engine::Outcome::Done {
                Style::Good
            } else {
                Style::Bad
            };
            (outcome_word(outcome).to_owned(), style)
        }
        None if alive.contains(&view.pid) => {
            (format!("running as process {}", view.pid), Style::Warn)
        }
        None => (
            "broken off: its process is gone; run again to go on".to_owned(),
            Style::Bad,
        ),
    }
}

fn number(view: &RunView, wanted: &[Ended]) -> usize {
    let ends = view.stages.iter().filter_map(|stage| stage.end.as_ref());
    ends.filter(|end| wanted.contains(&end.status)).count()
}

fn row(view: &RunView, alive: &[u32]) -> Vec<(String, Style)> {
    let (state, style) = match view.end {
        None if !alive.contains(&view.pid) => ("broken off".to_owned(), Style::Bad),
        None => ("running".to_owned(), Style::Warn),
        Some(_) => state(view, alive),
    };
    let shown = |wanted: &[Ended]| (count(number(view, wanted) as u64), Style::Plain);
    vec![
        (view.run.clone(), Style::Strong),
        (view.workflow.clone(), Style::Plain),
        (
            cache_folder::age_ms(&view.run)
                .map_or(String::new(), |age| format!("{} ago", took(age))),
            Style::Plain,
        ),
        (state, style),
        shown(&[Ended::Ran]),
        shown(&[Ended::Reused, Ended::UpToDate]),
        shown(&[Ended::Failed]),
    ]
}

/// A run as a JSON object.
fn as_json(view: &RunView, alive: &[u32]) -> String {
    let state = match view.end {
        Some((outcome, _)) => outcome_word(outcome),
        None if alive.contains(&view.pid) => "running",
        None => "broken_off",
    };
    let stages: Vec<serde_json::Value> = view
        .stages
        .iter()
        .map(|stage| {
            let progress = stage.progress.as_ref();
            json!({
                "stage": stage.name,
                "op": stage.op,
                "running": stage.running(),
                "progress": progress.map(|progress| json!({
                    "done": progress.done,
                    "total": progress.total,
                    "unit": progress.unit,
                    "per_second": progress.rate(),
                    "left_ms": progress.left_ms(),
                })),
                "metrics": stage.metrics,
                "end": stage.end,
            })
        })
        .collect();
    let params: serde_json::Map<String, serde_json::Value> = view
        .params
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "run": view.run,
        "workflow": view.workflow,
        "params": params,
        "pid": view.pid,
        "state": state,
        "took_ms": view.end.map_or(view.at_ms, |(_, took_ms)| took_ms),
        "stages": stages,
    })
    .to_string()
}
