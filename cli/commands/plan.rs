//! `blip plan`: which stages would run, and why.

use blip_engine::{Planned, PlannedAction, RunOptions};
use blip_grammar::Severity;
use serde_json::{Value, json};

use crate::args::{Format, Plan};
use crate::console::{Console, Style};
use crate::error::CommandError;
use crate::exit_code;
use crate::humanize::{count, duration, plural};
use crate::table::Table;
use crate::{machine, render, workflow_file};

/// Shows the plan. Fails if a stage cannot run, or the run would not begin since something is in
/// the way of an export.
pub(crate) fn run(args: &Plan, console: &mut Console) -> Result<u8, CommandError> {
    let mut loaded = workflow_file::load(&args.workflow, args.cache.cache.as_deref(), console)?;
    let engine = loaded.engine(&args.cache, args.device)?;
    let mut missing = machine::missing_gpus(&loaded.workflow);
    for diagnostic in &mut missing {
        // A plan for another machine.
        diagnostic.severity = Severity::Warning;
    }
    console.print_err(&render::diagnostics(
        &missing,
        &loaded.source,
        console.color_err,
    ));
    let plan = engine.plan(&loaded.workflow, &args.targets)?;
    match args.format {
        Format::Text => print(&plan, console),
        Format::Json => {
            for planned in &plan {
                console.json(&planned_json(planned));
            }
        }
    }
    let options = RunOptions {
        targets: args.targets.clone(),
        ..RunOptions::default()
    };
    engine.check_exports(&loaded.workflow, &options)?;
    Ok(if plan.iter().any(cannot_run) {
        exit_code::FAILED
    } else {
        exit_code::SUCCESS
    })
}

fn print(plan: &[Planned], console: &mut Console) {
    let mut table = Table::new(&["stage", "op", "action", ">last run", "reason"]);
    for planned in plan {
        let (action, style) = action_text(&planned.action);
        let last = planned.last_took_ms.map_or(String::new(), duration);
        let mut reasons = reasons(&planned.action).into_iter();
        table.row(vec![
            (planned.stage.to_string(), Style::Strong),
            (planned.op.clone(), Style::Plain),
            (action, style),
            (last, Style::Plain),
            (reasons.next().unwrap_or_default(), Style::Plain),
        ]);
        for reason in reasons {
            let mut row = vec![(String::new(), Style::Plain); 4];
            row.push((reason, Style::Plain));
            table.row(row);
        }
    }
    if !table.is_empty() {
        table.print(console, "");
        console.line("");
    }
    console.line(totals(plan));
}

fn action_text(action: &PlannedAction) -> (String, Style) {
    match action {
        PlannedAction::Reuse => ("reuse".to_owned(), Style::Dim),
        PlannedAction::Run { units: None, .. } => ("run".to_owned(), Style::Good),
        PlannedAction::Run {
            units: Some((missing, total)),
            ..
        } => {
            let text = format!("run {} of {} items", count(*missing), count(*total));
            (text, Style::Good)
        }
        PlannedAction::Unknown { .. } => ("may run".to_owned(), Style::Warn),
        PlannedAction::Error { .. } => ("fail".to_owned(), Style::Bad),
    }
}

/// Why a stage has to run or cannot; empty for a reused one.
pub(crate) fn reasons(action: &PlannedAction) -> Vec<String> {
    match action {
        PlannedAction::Reuse => Vec::new(),
        PlannedAction::Run { why, .. } => why.clone(),
        PlannedAction::Unknown { after } => {
            let stages: Vec<String> = after.iter().map(|stage| format!("`{stage}`")).collect();
            vec![format!("runs if {} changes", stages.join(" or "))]
        }
        PlannedAction::Error { what, help } => vec![what.clone(), format!("help: {help}")],
    }
}

fn will_run(planned: &Planned) -> bool {
    matches!(planned.action, PlannedAction::Run { .. })
}

fn may_run(planned: &Planned) -> bool {
    matches!(planned.action, PlannedAction::Unknown { .. })
}

fn cannot_run(planned: &Planned) -> bool {
    matches!(planned.action, PlannedAction::Error { .. })
}

/// `2 of 7 stages would run, 3 may run; estimated time 1m 20s`
fn totals(plan: &[Planned]) -> String {
    let stages = plural(plan.len(), "stage");
    let run = plan.iter().filter(|planned| will_run(planned)).count();
    let may = plan.iter().filter(|planned| may_run(planned)).count();
    let cannot = plan.iter().filter(|planned| cannot_run(planned)).count();
    if run + may + cannot == 0 {
        return format!("nothing to do: {stages} up to date");
    }
    let mut text = format!("{run} of {stages} would run");
    if may > 0 {
        text += &format!(", {may} may run");
    }
    if cannot > 0 {
        text += &format!(", {cannot} cannot run");
    }
    let estimate: u64 = plan
        .iter()
        .filter(|planned| will_run(planned) || may_run(planned))
        .filter_map(|planned| planned.estimate_ms)
        .sum();
    if estimate > 0 {
        text += &format!("; estimated time {}", duration(estimate));
    }
    text
}

pub(crate) fn planned_json(planned: &Planned) -> Value {
    let (action, units) = match &planned.action {
        PlannedAction::Reuse => ("reuse", None),
        PlannedAction::Run { units, .. } => ("run", *units),
        PlannedAction::Unknown { .. } => ("may_run", None),
        PlannedAction::Error { .. } => ("fail", None),
    };
    json!({
        "stage": planned.stage,
        "op": planned.op,
        "action": action,
        "why": reasons(&planned.action),
        "key": planned.key.map(|key| key.to_string()),
        "units": units.map(|(missing, total)| json!({ "missing": missing, "total": total })),
        "last_took_ms": planned.last_took_ms,
        "estimate_ms": planned.estimate_ms,
    })
}
