//! `blip explain`: why a stage would run, field by field, or from where its result would be reused.

use std::time::{SystemTime, UNIX_EPOCH};

use blip_engine::{Planned, PlannedAction, Reader};

use super::plan::{as_json, reasons};
use crate::amounts::{count, took};
use crate::args::{Explain, Format};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::Failure;
use crate::table::Table;
use crate::workflow_file;

/// Explains a stage, and the stages above it that make it run.
pub(crate) fn run(args: &Explain, console: &mut Console) -> Result<u8, Failure> {
    let mut loaded = workflow_file::load(&args.workflow, console)?;
    let engine = loaded.engine(&args.cache);
    let plan = engine.plan(&loaded.workflow, std::slice::from_ref(&args.stage))?;
    let Some((wanted, above)) = plan.split_last() else {
        return Ok(exit_code::DONE);
    };
    let causes: Vec<&Planned> = match &wanted.action {
        PlannedAction::Unknown { .. } => above
            .iter()
            .filter(|planned| planned.action != PlannedAction::Reuse)
            .collect(),
        _ => Vec::new(),
    };
    let shown = std::iter::once(wanted).chain(causes);
    match args.format {
        Format::Json => shown.for_each(|planned| console.line(as_json(planned).to_string())),
        Format::Text => {
            for (number, planned) in shown.enumerate() {
                if number > 0 {
                    console.line("");
                }
                text(planned, &engine.reader(), console);
            }
        }
    }
    let faulty = matches!(wanted.action, PlannedAction::Fault { .. });
    Ok(if faulty {
        exit_code::FAILED
    } else {
        exit_code::DONE
    })
}

fn text(planned: &Planned, reader: &Reader, console: &mut Console) {
    let (verdict, style) = match &planned.action {
        PlannedAction::Reuse => ("would be reused", Style::Good),
        PlannedAction::Run { units: None, .. } => ("would run:", Style::Warn),
        PlannedAction::Run {
            units: Some((missing, total)),
            ..
        } => {
            let units = format!(
                "would run for {} of its {} items:",
                count(*missing),
                count(*total)
            );
            head(planned, &units, Style::Warn, console);
            return why(planned, console);
        }
        PlannedAction::Unknown { .. } => ("would perhaps run:", Style::Warn),
        PlannedAction::Fault { .. } => ("cannot run:", Style::Bad),
    };
    head(planned, verdict, style, console);
    match planned
        .key
        .and_then(|key| Some((key, reader.record(&key)?)))
    {
        Some((key, record)) => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_millis());
            let age = u64::try_from(now)
                .unwrap_or(u64::MAX)
                .saturating_sub(record.started_ms);
            let items = record
                .count
                .map_or(String::new(), |items| format!(", {} items", count(items)));
            console.line(format!(
                "  result {}{items}, made {} ago in {}",
                record.output.short(),
                took(age),
                took(record.took_ms)
            ));
            console.line(format!("  key {}, made of:", key.short()));
            let mut table = Table::new(&["", ""]);
            for (field, value) in record.key_inputs {
                table.row(vec![(field, Style::Dim), (value, Style::Plain)]);
            }
            table.print(console, "    ");
        }
        None => why(planned, console),
    }
}

fn head(planned: &Planned, verdict: &str, style: Style, console: &mut Console) {
    let op = format!(" ({}) ", planned.op);
    console.pieces(&[
        (&planned.stage, Style::Strong),
        (&op, Style::Dim),
        (verdict, style),
    ]);
}

fn why(planned: &Planned, console: &mut Console) {
    reasons(&planned.action)
        .iter()
        .for_each(|reason| console.line(format!("  {reason}")));
}
