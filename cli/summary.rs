//! The tables at the end of a run: its stages, what was set aside, what failed, and the exports.

use blip_engine::{Outcome, RejectedItem, StageEnd, Status};

use crate::amounts::{count, numbers, plural, took};
use crate::console::{Console, Style};
use crate::table::Table;
use crate::view::{RunView, StageView};

/// A run of more stages lists only those that are worth a line.
const STAGES_MAX: usize = 40;
/// Items that were set aside are listed up to this many a stage.
const QUARANTINED_MAX: usize = 5;
/// Numbers of a result are listed up to this many.
const NUMBERS_MAX: usize = 4;

/// Prints everything about a run. `rejected` looks up the items that a stage's result had to do
/// without.
pub(crate) fn print(
    view: &RunView,
    rejected: impl Fn(&StageEnd) -> Vec<RejectedItem>,
    console: &mut Console,
) {
    stages(view, console);
    set_aside(view, rejected, console);
    failures(view, console);
    exports(view, console);
}

fn stages(view: &RunView, console: &mut Console) {
    let mut table = Table::new(&["stage", "op", ">items", ">time", "result", "numbers"]);
    let mut hidden = 0;
    for stage in &view.stages {
        let reused = stage
            .end
            .as_ref()
            .is_some_and(|end| end.status == Status::Reused);
        if view.stages.len() > STAGES_MAX && (reused || (stage.end.is_none() && !stage.running())) {
            hidden += 1;
            continue;
        }
        let items = stage
            .end
            .as_ref()
            .and_then(|end| end.count)
            .map_or(String::new(), count);
        let (result, style) = result(stage, view);
        let metrics = match &stage.end {
            Some(end) => numbers(&end.metrics, NUMBERS_MAX),
            None => numbers(&stage.metrics, NUMBERS_MAX),
        };
        table.row(vec![
            (stage.name.clone(), Style::Strong),
            (stage.op.to_string(), Style::Plain),
            (items, Style::Plain),
            (time(stage, view), Style::Plain),
            (result, style),
            (metrics, Style::Plain),
        ]);
    }
    if !table.is_empty() {
        table.print(console, "");
    }
    if hidden > 0 {
        console.line(format!(
            "and {} that were reused or wait",
            plural(hidden, "stage")
        ));
    }
}

fn time(stage: &StageView, view: &RunView) -> String {
    match (&stage.end, stage.started_ms) {
        (Some(end), _) if end.status == Status::Skipped => String::new(),
        (Some(end), _) => took(end.took_ms),
        (None, Some(started)) => took(view.at_ms.saturating_sub(started)),
        (None, None) => String::new(),
    }
}

/// What became of a stage, in words.
fn result(stage: &StageView, view: &RunView) -> (String, Style) {
    let Some(end) = &stage.end else {
        return match (&stage.progress, stage.running()) {
            (_, false) if view.end.is_some() => ("did not run".to_owned(), Style::Dim),
            (_, false) => ("waits".to_owned(), Style::Dim),
            (Some(progress), true) => {
                let (done, total, unit) =
                    (count(progress.done), count(progress.total), &progress.unit);
                (
                    format!("running: {done} of {total} {unit}, {}%", progress.percent()),
                    Style::Warn,
                )
            }
            (None, true) => ("running".to_owned(), Style::Warn),
        };
    };
    let (word, style) = match end.status {
        Status::Ran => match end.units.as_ref().filter(|units| units.reused > 0) {
            Some(units) => {
                return (
                    format!("ran {} of {}", count(units.computed), count(units.total)),
                    Style::Good,
                );
            }
            None => ("ran", Style::Good),
        },
        Status::Reused => ("reused", Style::Dim),
        Status::UpToDate => ("cut off", Style::Dim),
        Status::Failed => ("failed", Style::Bad),
        Status::Skipped => ("skipped", Style::Warn),
        Status::Interrupted => ("interrupted", Style::Warn),
    };
    (word.to_owned(), style)
}

fn set_aside(
    view: &RunView,
    rejected: impl Fn(&StageEnd) -> Vec<RejectedItem>,
    console: &mut Console,
) {
    let ends = view.stages.iter().filter_map(|stage| stage.end.as_ref());
    for end in ends.filter(|end| end.rejected > 0) {
        console.line("");
        let items = plural(usize::try_from(end.rejected).unwrap_or(usize::MAX), "item");
        console.pieces(&[
            (&end.stage, Style::Strong),
            (&format!(" set aside {items}:"), Style::Warn),
        ]);
        let mut table = Table::new(&["", ""]);
        let listed = rejected(end);
        for item in listed.iter().take(QUARANTINED_MAX) {
            table.row(vec![
                (item.item.clone(), Style::Plain),
                (item.reason.clone(), Style::Plain),
            ]);
        }
        table.print(console, "  ");
        if listed.len() > QUARANTINED_MAX {
            console.line(format!("  and {} more", listed.len() - QUARANTINED_MAX));
        }
    }
}

fn failures(view: &RunView, console: &mut Console) {
    for end in view.stages.iter().filter_map(|stage| stage.end.as_ref()) {
        if let (Status::Failed, Some(error)) = (end.status, &end.error) {
            console.line("");
            console.pieces(&[
                (&end.stage, Style::Strong),
                (" failed: ", Style::Bad),
                (&error.what, Style::Plain),
            ]);
            console.line(format!("  help: {}", error.help));
        }
    }
}

fn exports(view: &RunView, console: &mut Console) {
    if view.exports.is_empty() {
        return;
    }
    console.line("");
    let mut table = Table::new(&["export", "format", "path", "result"]);
    for export in &view.exports {
        let (result, style) = match &export.result {
            Ok(true) => ("written", Style::Good),
            Ok(false) => ("is there already", Style::Dim),
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
    for export in &view.exports {
        if let Err(error) = &export.result {
            console.line("");
            let what = format!("export of {} failed: ", export.stage);
            console.pieces(&[(&what, Style::Bad), (&error.what, Style::Plain)]);
            console.line(format!("  help: {}", error.help));
        }
    }
}

/// "done in 1m 20s: 2 stages ran, 5 reused"
pub(crate) fn verdict(view: &RunView) -> String {
    let number = |wanted: &[Status]| {
        let ends = view.stages.iter().filter_map(|stage| stage.end.as_ref());
        ends.filter(|end| wanted.contains(&end.status)).count()
    };
    let mut parts = vec![format!("{} ran", plural(number(&[Status::Ran]), "stage"))];
    let rest: [(&[Status], &str); 4] = [
        (&[Status::Reused, Status::UpToDate], "reused"),
        (&[Status::Failed], "failed"),
        (&[Status::Skipped], "skipped"),
        (&[Status::Interrupted], "interrupted"),
    ];
    for (statuses, word) in rest {
        let number = number(statuses);
        if number > 0 {
            parts.push(format!("{} {word}", count(number as u64)));
        }
    }
    let (word, took_ms) = match view.end {
        Some((Outcome::Done, took_ms)) => ("done in", took_ms),
        Some((Outcome::Failed, took_ms)) => ("failed after", took_ms),
        Some((Outcome::Interrupted, took_ms)) => ("interrupted after", took_ms),
        None => ("so far, in", view.at_ms),
    };
    format!("{word} {}: {}", took(took_ms), parts.join(", "))
}
