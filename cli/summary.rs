//! The tables at the end of a run: stages, rejected items, failures, exports.

use blip_engine::{CacheReader, Outcome, RejectedItem, StageEnd, Status};

use crate::console::{Console, Style};
use crate::humanize::{count, duration, metrics, plural, plural_u64};
use crate::run_view::{ExportView, RunView, StageView};
use crate::table::Table;

/// A run with more stages lists only those that did something.
const MAX_STAGES: usize = 40;
/// Rejected items of a stage that are listed, in the tables and while it runs.
pub(crate) const MAX_REJECTED: usize = 5;
const MAX_METRICS: usize = 4;

/// Prints all tables of a run. Rejected items are read from the cache. `unfinished` is the state of
/// a stage that has begun: `running`, or `aborted` where the run's process is gone.
pub(crate) fn print(view: &RunView, unfinished: &str, reader: &CacheReader, console: &mut Console) {
    print_stages(view, unfinished, console);
    print_rejected(view, reader, console);
    print_failures(view, console);
    print_exports(&view.exports, console);
}

fn print_stages(view: &RunView, unfinished: &str, console: &mut Console) {
    let mut table = Table::new(&["stage", "op", ">items", ">time", "result", "metrics"]);
    let mut hidden = 0;
    for stage in &view.stages {
        if view.stages.len() > MAX_STAGES && !is_notable(stage) {
            hidden += 1;
            continue;
        }
        let items = stage.end.as_ref().and_then(|end| end.count);
        let (result, style) = stage_result(stage, view, unfinished);
        let values = match &stage.end {
            Some(end) => metrics(&end.metrics, MAX_METRICS),
            None => metrics(&stage.metrics, MAX_METRICS),
        };
        table.row(vec![
            (stage.name.clone(), Style::Strong),
            (stage.op.to_string(), Style::Plain),
            (items.map_or(String::new(), count), Style::Plain),
            (stage_time(stage, view), Style::Plain),
            (result, style),
            (values, Style::Plain),
        ]);
    }
    if !table.is_empty() {
        table.print(console, "");
    }
    if hidden > 0 {
        console.line(format!("and {} reused or pending", plural(hidden, "stage")));
    }
}

/// Whether a stage is listed in a long table: unless it was reused or did not start.
fn is_notable(stage: &StageView) -> bool {
    match stage.status() {
        Some(status) => status != Status::Reused,
        None => stage.is_running(),
    }
}

fn stage_time(stage: &StageView, view: &RunView) -> String {
    match (&stage.end, stage.started_ms) {
        (Some(end), _) if end.status == Status::Skipped => String::new(),
        (Some(end), _) => duration(end.took_ms),
        (None, Some(started)) => duration(view.at_ms.saturating_sub(started)),
        (None, None) => String::new(),
    }
}

fn stage_result(stage: &StageView, view: &RunView, unfinished: &str) -> (String, Style) {
    let Some(end) = &stage.end else {
        return unfinished_result(stage, view, unfinished);
    };
    let (word, style) = match end.status {
        Status::Ran => return (ran(end), Style::Good),
        Status::Reused => ("reused", Style::Dim),
        Status::UpToDate => ("up to date", Style::Dim),
        Status::Failed => ("failed", Style::Bad),
        Status::Skipped => ("skipped", Style::Warn),
        Status::Interrupted => ("interrupted", Style::Warn),
    };
    (word.to_owned(), style)
}

/// `ran`, or `ran 3 of 12` for a map stage of which some units were cached.
fn ran(end: &StageEnd) -> String {
    match &end.units {
        Some(units) if units.reused > 0 => {
            format!("ran {} of {}", count(units.computed), count(units.total))
        }
        _ => "ran".to_owned(),
    }
}

fn unfinished_result(stage: &StageView, view: &RunView, state: &str) -> (String, Style) {
    if !stage.is_running() {
        let word = if view.end.is_some() {
            "did not run"
        } else {
            "pending"
        };
        return (word.to_owned(), Style::Dim);
    }
    let text = match &stage.progress {
        Some(progress) => format!(
            "{state}: {} of {} {}, {}%",
            count(progress.done),
            count(progress.total),
            progress.unit,
            progress.percent()
        ),
        None => state.to_owned(),
    };
    (text, Style::Warn)
}

fn print_rejected(view: &RunView, reader: &CacheReader, console: &mut Console) {
    for end in view.ends().filter(|end| end.rejected > 0) {
        let items = rejected_items(end, reader);
        console.line("");
        console.styled(&[
            (&end.stage, Style::Strong),
            (
                &format!(" rejected {}:", plural_u64(end.rejected, "item")),
                Style::Warn,
            ),
        ]);
        let mut table = Table::new(&["", ""]);
        for item in items.iter().take(MAX_REJECTED) {
            table.row(vec![
                (item.item.clone(), Style::Plain),
                (item.reason.clone(), Style::Plain),
            ]);
        }
        table.print(console, "  ");
        if items.len() > MAX_REJECTED {
            let more = count((items.len() - MAX_REJECTED) as u64);
            console.line(format!(
                "  and {more} more: `blip run … --report FOLDER` writes a list of all"
            ));
        }
    }
}

/// Events only count rejected items; the stage's record lists them.
fn rejected_items(end: &StageEnd, reader: &CacheReader) -> Vec<RejectedItem> {
    let record = end.key.and_then(|key| reader.record(&key));
    record.map_or(Vec::new(), |record| record.rejected)
}

fn print_failures(view: &RunView, console: &mut Console) {
    for end in view.ends() {
        if let (Status::Failed, Some(error)) = (end.status, &end.error) {
            console.line("");
            console.styled(&[
                (&end.stage, Style::Strong),
                (" failed: ", Style::Bad),
                (&error.what, Style::Plain),
            ]);
            console.line(format!("  help: {}", error.help));
        }
    }
}

fn print_exports(exports: &[ExportView], console: &mut Console) {
    if exports.is_empty() {
        return;
    }
    console.line("");
    let mut table = Table::new(&["export", "format", "path", "result"]);
    for export in exports {
        let (result, style) = match &export.result {
            Ok(true) => ("written", Style::Good),
            Ok(false) => ("up to date", Style::Dim),
            Err(_) => ("failed", Style::Bad),
        };
        table.row(vec![
            (export.stage.clone(), Style::Strong),
            (export.format.clone(), Style::Plain),
            (export.path.clone(), Style::Plain),
            (result.to_owned(), style),
        ]);
    }
    table.print(console, "");
    for export in exports {
        if let Err(error) = &export.result {
            console.line("");
            let subject = format!("export of {} failed: ", export.stage);
            console.styled(&[(&subject, Style::Bad), (&error.what, Style::Plain)]);
            console.line(format!("  help: {}", error.help));
        }
    }
}

/// The color of an outcome.
pub(crate) fn outcome_style(outcome: Outcome) -> Style {
    if outcome == Outcome::Done {
        Style::Good
    } else {
        Style::Bad
    }
}

/// `done in 1m 20s: 2 stages ran, 5 reused`
pub(crate) fn totals(view: &RunView) -> String {
    let mut parts = vec![format!(
        "{} ran",
        plural(view.count(&[Status::Ran]), "stage")
    )];
    let others: [(&[Status], &str); 4] = [
        (&[Status::Reused, Status::UpToDate], "reused"),
        (&[Status::Failed], "failed"),
        (&[Status::Skipped], "skipped"),
        (&[Status::Interrupted], "interrupted"),
    ];
    for (statuses, word) in others {
        let stages = view.count(statuses);
        if stages > 0 {
            parts.push(format!("{} {word}", count(stages as u64)));
        }
    }
    let (phrase, took_ms) = match view.end {
        Some((Outcome::Done, took_ms)) => ("done in", took_ms),
        Some((Outcome::Failed, took_ms)) => ("failed after", took_ms),
        Some((Outcome::Interrupted, took_ms)) => ("interrupted after", took_ms),
        None => ("so far, in", view.at_ms),
    };
    format!("{phrase} {}: {}", duration(took_ms), parts.join(", "))
}
