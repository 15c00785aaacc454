//! `blip diff`: the differences between two runs, down to the fields of keys.

use blip_engine::diff::{RunDiff, StageDiff, diff};
use blip_engine::key::Difference;
use blip_engine::{CacheReader, RunLog};
use serde_json::{Value, json};

use crate::args::Format;
use crate::args::cache::Diff;
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::humanize::{number, plural};
use crate::{exit_code, run_history};

pub(crate) fn run(args: &Diff, console: &mut Console) -> Result<u8, CommandError> {
    let reader = CacheReader::new(&args.dir.cache);
    let old = read_log(&reader, args, &args.old)?;
    let new = read_log(&reader, args, &args.new)?;
    let diff = diff(&reader, &old, &new);
    match args.format {
        Format::Json => console.json(&diff_json(&diff)),
        Format::Text => print(&diff, console),
    }
    Ok(exit_code::SUCCESS)
}

fn read_log(reader: &CacheReader, args: &Diff, run: &str) -> Result<RunLog, ErrorMessage> {
    run_history::require(reader, &args.dir.cache, run)?;
    reader
        .log(run)
        .map_err(|error| ErrorMessage::io("read the event log", &reader.log_path(run), &error))
}

fn print(diff: &RunDiff, console: &mut Console) {
    for param in &diff.params {
        console.line(format!("param {param}"));
    }
    for stage in &diff.only_old {
        console.styled(&[("- ", Style::Bad), (stage, Style::Strong)]);
    }
    for stage in &diff.only_new {
        console.styled(&[("+ ", Style::Good), (stage, Style::Strong)]);
    }
    for stage in &diff.stages {
        print_stage(stage, console);
    }
    let differences =
        diff.params.len() + diff.only_old.len() + diff.only_new.len() + diff.stages.len();
    if differences > 0 {
        console.line("");
    }
    console.line(format!(
        "{} changed, {} removed, {} added, {} unchanged",
        plural(diff.stages.len(), "stage"),
        diff.only_old.len(),
        diff.only_new.len(),
        diff.same
    ));
}

fn print_stage(stage: &StageDiff, console: &mut Console) {
    let result = if stage.other_result() {
        "result changed"
    } else {
        "same result, different key"
    };
    console.styled(&[
        ("~ ", Style::Warn),
        (&stage.stage, Style::Strong),
        (": ", Style::Plain),
        (result, Style::Dim),
    ]);
    for change in changes(stage) {
        console.line(format!("    {change}"));
    }
}

/// The changes of a stage, one per line: key fields, item count, metrics.
fn changes(stage: &StageDiff) -> Vec<String> {
    let mut changes: Vec<String> = match &stage.fields {
        Some(fields) => fields.iter().map(Difference::to_string).collect(),
        None => vec!["the older record was removed: the differences are not known".to_owned()],
    };
    let (old, new) = stage.count;
    if old != new {
        changes.push(format!("items: {} -> {}", or_none(old), or_none(new)));
    }
    for (name, old, new) in &stage.metrics {
        let (old, new) = (old.map(number), new.map(number));
        changes.push(format!("{name}: {} -> {}", or_none(old), or_none(new)));
    }
    changes
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or("none".to_owned(), |value| value.to_string())
}

fn diff_json(diff: &RunDiff) -> Value {
    let params: Vec<Value> = diff.params.iter().map(difference_json).collect();
    let stages: Vec<Value> = diff.stages.iter().map(stage_json).collect();
    json!({
        "params": params,
        "only_old": diff.only_old,
        "only_new": diff.only_new,
        "stages": stages,
        "same": diff.same,
    })
}

fn stage_json(stage: &StageDiff) -> Value {
    let fields = stage
        .fields
        .as_ref()
        .map(|fields| fields.iter().map(difference_json).collect::<Vec<_>>());
    let metrics: Vec<Value> = stage
        .metrics
        .iter()
        .map(|(name, old, new)| json!({ "name": name, "old": old, "new": new }))
        .collect();
    json!({
        "stage": stage.stage,
        "status": { "old": stage.status.0, "new": stage.status.1 },
        "fields": fields,
        "output": { "old": stage.output.0, "new": stage.output.1 },
        "items": { "old": stage.count.0, "new": stage.count.1 },
        "metrics": metrics,
    })
}

fn difference_json(difference: &Difference) -> Value {
    json!({ "field": difference.field, "old": difference.old, "new": difference.new })
}
