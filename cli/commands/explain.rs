//! `blip explain`: why a stage would run, or which result it would reuse.

use blip_engine::{CacheReader, Digest, Planned, PlannedAction, Record};

use super::plan::{planned_json, reasons};
use crate::args::{Explain, Format};
use crate::console::{Console, Style};
use crate::error::CommandError;
use crate::exit_code;
use crate::humanize::{count, duration};
use crate::run_history::now_ms;
use crate::table::Table;
use crate::workflow_file;

/// Explains a stage. If that depends on upstream stages that would run, explains those too.
pub(crate) fn run(args: &Explain, console: &mut Console) -> Result<u8, CommandError> {
    let mut loaded = workflow_file::load(&args.workflow, args.cache.cache.as_deref(), console)?;
    let engine = loaded.engine(&args.cache, args.device)?;
    let plan = engine.plan(&loaded.workflow, std::slice::from_ref(&args.stage))?;
    // Stages come in topological order, so that the requested one is the last.
    let Some((stage, upstream)) = plan.split_last() else {
        return Ok(exit_code::SUCCESS);
    };
    let mut explained = vec![stage];
    if matches!(stage.action, PlannedAction::Unknown { .. }) {
        let running = upstream
            .iter()
            .filter(|planned| planned.action != PlannedAction::Reuse);
        explained.extend(running);
    }
    for (number, planned) in explained.into_iter().enumerate() {
        if args.format == Format::Json {
            console.json(&planned_json(planned));
            continue;
        }
        if number > 0 {
            console.line("");
        }
        print(planned, &engine.reader(), console);
    }
    Ok(match stage.action {
        PlannedAction::Error { .. } => exit_code::FAILED,
        _ => exit_code::SUCCESS,
    })
}

fn print(planned: &Planned, reader: &CacheReader, console: &mut Console) {
    let (action, style) = action_phrase(&planned.action);
    console.styled(&[
        (&planned.stage, Style::Strong),
        (&format!(" ({}) ", planned.op), Style::Dim),
        (&action, style),
    ]);
    // A record exists where the stage would be reused; a stage that would run has none.
    let record = planned
        .key
        .and_then(|key| Some((key, reader.record(&key)?)));
    match record {
        Some((key, record)) if !is_partial(&planned.action) => {
            print_record(key, record, console);
        }
        _ => {
            for reason in reasons(&planned.action) {
                console.line(format!("  {reason}"));
            }
        }
    }
}

fn action_phrase(action: &PlannedAction) -> (String, Style) {
    match action {
        PlannedAction::Reuse => ("would be reused".to_owned(), Style::Good),
        PlannedAction::Run { units: None, .. } => ("would run:".to_owned(), Style::Warn),
        PlannedAction::Run {
            units: Some((missing, total)),
            ..
        } => {
            let (missing, total) = (count(*missing), count(*total));
            let text = format!("would run for {missing} of its {total} items:");
            (text, Style::Warn)
        }
        PlannedAction::Unknown { .. } => ("may run:".to_owned(), Style::Warn),
        PlannedAction::Error { .. } => ("cannot run:".to_owned(), Style::Bad),
    }
}

/// Whether some units of a map stage are cached.
fn is_partial(action: &PlannedAction) -> bool {
    matches!(action, PlannedAction::Run { units: Some(_), .. })
}

fn print_record(key: Digest, record: Record, console: &mut Console) {
    let items = record
        .count
        .map_or(String::new(), |items| format!(", {} items", count(items)));
    console.line(format!(
        "  result {}{items}, computed {} ago in {}",
        record.output.short(),
        duration(now_ms().saturating_sub(record.started_ms)),
        duration(record.took_ms)
    ));
    console.line(format!("  key {}, computed from:", key.short()));
    let mut table = Table::new(&["", ""]);
    for (field, value) in record.key_inputs {
        table.row(vec![(field, Style::Dim), (value, Style::Plain)]);
    }
    table.print(console, "    ");
}
