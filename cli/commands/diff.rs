//! `blip diff`: what differs between two runs, field by field.

use std::path::Path;

use blip_engine::Reader;
use blip_engine::diff::{RunDiff, StageDiff, diff};
use blip_engine::key::Difference;
use blip_grammar::nearest;
use serde_json::{Value, json};

use crate::amounts::{number, plural};
use crate::args::Format;
use crate::args::space::Diff;
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};

/// Compares them.
pub(crate) fn run(args: &Diff, console: &mut Console) -> Result<u8, Failure> {
    let cache = &args.place.cache;
    let reader = Reader::new(cache);
    let log = |run: &str| -> Result<_, Failure> {
        known(&reader, cache, run)?;
        reader
            .log(run)
            .map_err(|error| Fault::io("read the event log", &reader.log_path(run), &error).into())
    };
    let found = diff(&reader, &log(&args.old)?, &log(&args.new)?);
    match args.format {
        Format::Json => console.line(as_json(&found).to_string()),
        Format::Text => text(&found, console),
    }
    Ok(exit_code::DONE)
}

/// A fault if a cache has no such run.
pub(crate) fn known(reader: &Reader, cache: &Path, run: &str) -> Result<(), Fault> {
    let runs = reader
        .runs()
        .map_err(|error| Fault::io("read the cache", cache, &error))?;
    if runs.iter().any(|known| known == run) {
        return Ok(());
    }
    let help = match (nearest(run, runs.iter().map(String::as_str)), runs.last()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(newest)) => format!("the newest is `{newest}`"),
        (None, None) => "there are none: name the cache with --cache".to_owned(),
    };
    Err(Fault::usage(
        format!("there is no run `{run}` in `{}`", cache.display()),
        help,
    ))
}

fn text(found: &RunDiff, console: &mut Console) {
    for param in &found.params {
        console.line(format!("param {param}"));
    }
    for (mark, stages, style) in [
        ("-", &found.only_old, Style::Bad),
        ("+", &found.only_new, Style::Good),
    ] {
        for stage in stages {
            console.pieces(&[(mark, style), (" ", Style::Plain), (stage, Style::Strong)]);
        }
    }
    for stage in &found.stages {
        let result = if stage.other_result() {
            "another result"
        } else {
            "the same result from another key"
        };
        console.pieces(&[
            ("~ ", Style::Warn),
            (&stage.stage, Style::Strong),
            (": ", Style::Plain),
            (result, Style::Dim),
        ]);
        lines(stage)
            .iter()
            .for_each(|line| console.line(format!("    {line}")));
    }
    if found.params.len() + found.only_old.len() + found.only_new.len() + found.stages.len() > 0 {
        console.line("");
    }
    console.line(format!(
        "{} differ, {} only in the older run, {} only in the newer, {} the same",
        plural(found.stages.len(), "stage"),
        found.only_old.len(),
        found.only_new.len(),
        found.same
    ));
}

fn lines(stage: &StageDiff) -> Vec<String> {
    let mut lines: Vec<String> = match &stage.fields {
        Some(fields) => fields.iter().map(Difference::to_string).collect(),
        None => vec!["its older record is gone: what differs cannot be told".to_owned()],
    };
    if stage.count.0 != stage.count.1 {
        let items = |count: Option<u64>| count.map_or("none".to_owned(), |count| count.to_string());
        lines.push(format!(
            "items: {} -> {}",
            items(stage.count.0),
            items(stage.count.1)
        ));
    }
    for (name, then, now) in &stage.metrics {
        let value = |value: &Option<f64>| value.map_or("none".to_owned(), number);
        lines.push(format!("{name}: {} -> {}", value(then), value(now)));
    }
    lines
}

fn as_json(found: &RunDiff) -> Value {
    let field = |difference: &Difference| json!({ "field": difference.field, "old": difference.old, "new": difference.new });
    let stage = |stage: &StageDiff| {
        let metric = |(name, then, now): &(String, Option<f64>, Option<f64>)| json!({ "name": name, "old": then, "new": now });
        json!({
            "stage": stage.stage,
            "status": { "old": stage.status.0, "new": stage.status.1 },
            "fields": stage.fields.as_ref().map(|fields| fields.iter().map(field).collect::<Vec<_>>()),
            "output": { "old": stage.output.0, "new": stage.output.1 },
            "items": { "old": stage.count.0, "new": stage.count.1 },
            "metrics": stage.metrics.iter().map(metric).collect::<Vec<_>>(),
        })
    };
    json!({
        "params": found.params.iter().map(field).collect::<Vec<_>>(),
        "only_old": found.only_old,
        "only_new": found.only_new,
        "stages": found.stages.iter().map(stage).collect::<Vec<_>>(),
        "same": found.same,
    })
}
