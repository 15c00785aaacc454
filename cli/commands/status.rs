//! `blip status`: the latest run in detail and earlier ones in a table, read from event logs, also
//! while a run is active.

use blip_engine::{CacheReader, Status as StageStatus};
use serde_json::{Map, Value, json};

use crate::args::{Format, Status};
use crate::console::{Console, Style};
use crate::error::CommandError;
use crate::humanize::{count, duration};
use crate::progress::lines::outcome_word;
use crate::run_view::{RunView, StageView};
use crate::table::Table;
use crate::{exit_code, run_history, summary};

/// Runs listed besides the latest.
const MAX_EARLIER: usize = 5;

pub(crate) fn run(args: &Status, console: &mut Console) -> Result<u8, CommandError> {
    let (reader, runs) = run_history::open(&args.dir.cache)?;
    let views: Vec<RunView> = runs
        .iter()
        .rev()
        .take(1 + MAX_EARLIER)
        .map(|run| read_view(&reader, run))
        .collect();
    let active: Vec<u32> = reader.at_work().iter().map(|holder| holder.pid).collect();
    if args.format == Format::Json {
        for view in &views {
            console.json(&run_json(view, &active));
        }
        return Ok(exit_code::SUCCESS);
    }
    let Some((latest, earlier)) = views.split_first() else {
        return Ok(exit_code::SUCCESS);
    };
    print_latest(latest, &active, &reader, console);
    if !earlier.is_empty() {
        print_earlier(earlier, &active, console);
    }
    Ok(exit_code::SUCCESS)
}

/// The state of a run. A log that cannot be read is shown as a run without events, so that one
/// corrupt file does not hide the other runs.
fn read_view(reader: &CacheReader, run: &str) -> RunView {
    let mut view = RunView::default();
    match reader.log(run) {
        Ok(log) => {
            for logged in &log.events {
                view.apply(logged.at_ms, &logged.event);
            }
        }
        Err(error) => tracing::warn!(run, %error, "could not read the event log"),
    }
    run.clone_into(&mut view.run);
    // A run that has just begun has no event yet; its process is part of its id.
    if view.pid == 0 {
        let pid = run.split('-').nth(1).and_then(|pid| pid.parse().ok());
        view.pid = pid.unwrap_or(0);
    }
    view
}

fn print_latest(view: &RunView, active: &[u32], reader: &CacheReader, console: &mut Console) {
    let (word, style) = state(view, active);
    let state = match word {
        "running" => format!("running as process {}", view.pid),
        "aborted" => "aborted: its process no longer exists; run again to resume".to_owned(),
        _ => word.to_owned(),
    };
    let started = started_ago(view).map_or(String::new(), |ago| format!(", started {ago}"));
    console.styled(&[
        (
            &format!("run {} of {}: ", view.run, view.workflow),
            Style::Plain,
        ),
        (&state, style),
        (&started, Style::Plain),
    ]);
    console.line("");
    summary::print(view, word, reader, console);
    console.line("");
    console.line(summary::totals(view));
}

fn print_earlier(views: &[RunView], active: &[u32], console: &mut Console) {
    console.line("\nearlier runs:");
    let mut table = Table::new(&[
        "run", "workflow", ">started", "result", ">ran", ">reused", ">failed",
    ]);
    for view in views {
        let (state, style) = state(view, active);
        table.row(vec![
            (view.run.clone(), Style::Strong),
            (view.workflow.clone(), Style::Plain),
            (started_ago(view).unwrap_or_default(), Style::Plain),
            (state.to_owned(), style),
            stage_count(view, &[StageStatus::Ran]),
            stage_count(view, &[StageStatus::Reused, StageStatus::UpToDate]),
            stage_count(view, &[StageStatus::Failed]),
        ]);
    }
    table.print(console, "  ");
}

fn stage_count(view: &RunView, statuses: &[StageStatus]) -> (String, Style) {
    (count(view.count(statuses) as u64), Style::Plain)
}

/// The state of a run in a word, given the processes that are active in the cache. A run without an
/// end whose process is gone was aborted: killed, or stopped by a crash or a power failure.
fn state(view: &RunView, active: &[u32]) -> (&'static str, Style) {
    match view.end {
        Some((outcome, _)) => (outcome_word(outcome), summary::outcome_style(outcome)),
        None if active.contains(&view.pid) => ("running", Style::Warn),
        None => ("aborted", Style::Bad),
    }
}

fn started_ago(view: &RunView) -> Option<String> {
    let age = run_history::age_ms(&view.run)?;
    Some(format!("{} ago", duration(age)))
}

fn run_json(view: &RunView, active: &[u32]) -> Value {
    let params: Map<String, Value> = view
        .params
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let stages: Vec<Value> = view.stages.iter().map(stage_json).collect();
    let (state, _) = state(view, active);
    json!({
        "run": view.run,
        "workflow": view.workflow,
        "params": params,
        "pid": view.pid,
        "state": state,
        "took_ms": view.end.map_or(view.at_ms, |(_, took_ms)| took_ms),
        "stages": stages,
    })
}

fn stage_json(stage: &StageView) -> Value {
    let progress = stage.progress.as_ref().map(|progress| {
        json!({
            "done": progress.done,
            "total": progress.total,
            "unit": progress.unit,
            "per_second": progress.rate(),
            "left_ms": progress.left_ms(),
        })
    });
    json!({
        "stage": stage.name,
        "op": stage.op,
        "running": stage.is_running(),
        "progress": progress,
        "metrics": stage.metrics,
        "end": stage.end,
    })
}
