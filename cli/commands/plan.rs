//! `blip plan`: what a run would do and why, before it costs anything.

use blip_engine::{Planned, PlannedAction};
use serde_json::{Value, json};

use crate::amounts::{count, plural, took};
use crate::args::{Format, Plan};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::Failure;
use crate::table::Table;
use crate::workflow_file;

/// Shows the plan. A stage that could not run makes it a failure.
pub(crate) fn run(args: &Plan, console: &mut Console) -> Result<u8, Failure> {
    let mut loaded = workflow_file::load(&args.workflow, console)?;
    let engine = loaded.engine(&args.cache);
    let plan = engine.plan(&loaded.workflow, &args.targets)?;
    match args.format {
        Format::Text => text(&plan, console),
        Format::Json => plan
            .iter()
            .for_each(|planned| console.line(as_json(planned).to_string())),
    }
    let faulty = plan
        .iter()
        .any(|planned| matches!(planned.action, PlannedAction::Fault { .. }));
    Ok(if faulty {
        exit_code::FAILED
    } else {
        exit_code::DONE
    })
}

fn text(plan: &[Planned], console: &mut Console) {
    let mut table = Table::new(&["stage", "op", "would", ">last time", "why"]);
    for planned in plan {
        let (would, style) = would(&planned.action);
        let reasons = reasons(&planned.action);
        let mut reasons = reasons.iter();
        let last = planned.last_took_ms.map_or(String::new(), took);
        let first = reasons.next().cloned().unwrap_or_default();
        table.row(vec![
            (planned.stage.to_string(), Style::Strong),
            (planned.op.clone(), Style::Plain),
            (would, style),
            (last, Style::Plain),
            (first, Style::Plain),
        ]);
        for reason in reasons {
            let empty = || (String::new(), Style::Plain);
            table.row(vec![
                empty(),
                empty(),
                empty(),
                empty(),
                (reason.clone(), Style::Plain),
            ]);
        }
    }
    if !table.is_empty() {
        table.print(console, "");
        console.line("");
    }
    console.line(verdict(plan));
}

/// What would become of a stage, in a word or two.
fn would(action: &PlannedAction) -> (String, Style) {
    match action {
        PlannedAction::Reuse => ("reuse".to_owned(), Style::Dim),
        PlannedAction::Run { units: None, .. } => ("run".to_owned(), Style::Good),
        PlannedAction::Run {
            units: Some((missing, total)),
            ..
        } => (
            format!("run {} of {} items", count(*missing), count(*total)),
            Style::Good,
        ),
        PlannedAction::Unknown { .. } => ("perhaps run".to_owned(), Style::Warn),
        PlannedAction::Fault { .. } => ("fail".to_owned(), Style::Bad),
    }
}

/// Why, one reason each.
pub(crate) fn reasons(action: &PlannedAction) -> Vec<String> {
    match action {
        PlannedAction::Reuse => Vec::new(),
        PlannedAction::Run { why, .. } => why.clone(),
        PlannedAction::Unknown { after } => {
            vec![format!("if other bytes come from {}", after.join(", "))]
        }
        PlannedAction::Fault { what, help } => vec![what.clone(), format!("help: {help}")],
    }
}

/// "2 of 7 stages would run, 3 perhaps; by the last time, this takes about 1m 20s"
fn verdict(plan: &[Planned]) -> String {
    let number = |wanted: &dyn Fn(&PlannedAction) -> bool| {
        plan.iter()
            .filter(|planned| wanted(&planned.action))
            .count()
    };
    let run = number(&|action| matches!(action, PlannedAction::Run { .. }));
    let perhaps = number(&|action| matches!(action, PlannedAction::Unknown { .. }));
    let fail = number(&|action| matches!(action, PlannedAction::Fault { .. }));
    if run + perhaps + fail == 0 {
        return format!(
            "nothing to do: {} would be reused",
            plural(plan.len(), "stage")
        );
    }
    let mut text = format!("{run} of {} would run", plural(plan.len(), "stage"));
    if perhaps > 0 {
        text += &format!(", {perhaps} perhaps");
    }
    if fail > 0 {
        text += &format!(", {fail} cannot");
    }
    let moving = plan.iter().filter(|planned| {
        matches!(
            planned.action,
            PlannedAction::Run { .. } | PlannedAction::Unknown { .. }
        )
    });
    let estimate: u64 = moving.filter_map(|planned| planned.estimate_ms).sum();
    if estimate > 0 {
        text += &format!("; by the last time, this takes about {}", took(estimate));
    }
    text
}

/// A planned stage as a JSON object.
pub(crate) fn as_json(planned: &Planned) -> Value {
    let (would, units) = match &planned.action {
        PlannedAction::Reuse => ("reuse", None),
        PlannedAction::Run { units, .. } => ("run", *units),
        PlannedAction::Unknown { .. } => ("perhaps", None),
        PlannedAction::Fault { .. } => ("fail", None),
    };
    json!({
        "stage": planned.stage,
        "op": planned.op,
        "would": would,
        "why": reasons(&planned.action),
        "key": planned.key.map(|key| key.to_string()),
        "units": units.map(|(missing, total)| json!({ "missing": missing, "total": total })),
        "last_took_ms": planned.last_took_ms,
        "estimate_ms": planned.estimate_ms,
    })
}
