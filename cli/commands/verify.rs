//! `blip cache verify`: looks for damaged files, and makes again what they were of.

use std::path::Path;

use blip_engine::{Affected, Damage, IndexKind, Level, Repaired, Report, RunOptions, StopSignal};
use serde_json::{Value, json};

use super::cache::{bytes, engine_on};
use crate::amounts::plural;
use crate::args::space::Verify;
use crate::args::{CacheArgs, Format, Index, WorkflowArgs};
use crate::console::Console;
use crate::failure::{Failure, Fault};
use crate::{exit_code, progress, signals, workflow_file};

/// Verifies. Damage is a failure, also when it has been moved away: something is to be made again.
/// After a repair, only what could not be made again is.
pub(crate) fn run(args: &Verify, console: &mut Console) -> Result<u8, Failure> {
    let level = match (args.full, args.subset) {
        (true, _) => Level::Full,
        (false, Some(share)) => Level::Subset(share),
        (false, None) => Level::Quick,
    };
    if args.repair.is_none() && (!args.overrides.set.is_empty() || args.overrides.params.is_some())
    {
        let help = "name the workflow that makes again what is damaged: --repair FILE";
        return Err(Fault::usage("values of params are of no use without a workflow", help).into());
    }
    let options = RunOptions {
        no_wait: args.no_wait,
        ..RunOptions::default()
    };
    let report = engine_on(&args.place, IndexKind::Sled)?.verify(level, &options)?;
    let repaired = match &args.repair {
        Some(file) if !report.damage.is_empty() => Some(repair(file, args, &report, console)?),
        _ => None,
    };
    if args.format == Format::Json {
        console.line(as_json(&report, repaired.as_ref()).to_string());
    } else {
        print(&report, repaired.as_ref(), console);
    }
    let whole = repaired.map_or(report.damage.is_empty(), |repaired| {
        repaired.lost.is_empty()
    });
    Ok(if whole {
        exit_code::DONE
    } else {
        exit_code::FAILED
    })
}

fn repair(
    file: &Path,
    args: &Verify,
    report: &Report,
    console: &mut Console,
) -> Result<Repaired, Failure> {
    let workflow = WorkflowArgs {
        file: file.to_path_buf(),
        overrides: args.overrides.clone(),
    };
    let mut loaded = workflow_file::load(&workflow, console)?;
    let place = CacheArgs {
        cache: Some(args.place.cache.clone()),
        index: Index::Sled,
    };
    let engine = loaded.engine(&place);
    let stop = StopSignal::default();
    signals::listen(stop.clone())?;
    let options = RunOptions {
        no_wait: args.no_wait,
        stop,
        ..RunOptions::default()
    };
    let mut shown = progress::listener(args.format, false);
    Ok(engine.repair(report, &loaded.workflow, &options, &mut [shown.as_mut()])?)
}

fn print(report: &Report, repaired: Option<&Repaired>, console: &mut Console) {
    for damage in &report.damage {
        console.line(format!("{}: {}", damage.path.display(), damage.wrong));
        if let Some(aside) = &damage.aside {
            console.line(format!("  it is now {}", aside.display()));
        }
        for affected in &damage.affected {
            console.line(format!("  {} needs it", name(affected)));
        }
    }
    report
        .notes
        .iter()
        .for_each(|note| console.note(format!("warning: {note}")));
    let count =
        |amount: u64, noun: &str| plural(usize::try_from(amount).unwrap_or(usize::MAX), noun);
    console.line(format!(
        "{} and {} looked at, {} read: {}",
        count(report.records, "result"),
        count(report.objects, "object"),
        bytes(report.bytes),
        match report.damage.len() {
            0 => "nothing is damaged".to_owned(),
            damaged => plural(damaged, "damaged file"),
        },
    ));
    match repaired {
        None if report.damage.is_empty() => {}
        None => console.note("the next run makes again what is damaged, and nothing else"),
        Some(repaired) => {
            for affected in &repaired.whole {
                console.line(format!("{} is whole again", name(affected)));
            }
            for (affected, why) in &repaired.lost {
                console.line(format!("{} was not made again: {why}", name(affected)));
            }
        }
    }
}

/// "`captioner` (1f2e3d4c)".
fn name(affected: &Affected) -> String {
    let stage = if affected.stage.is_empty() {
        "a stage".to_owned()
    } else {
        format!("`{}`", affected.stage)
    };
    format!("{stage} ({})", affected.key.short())
}

fn as_json(report: &Report, repaired: Option<&Repaired>) -> Value {
    let affected = |affected: &Affected| json!({ "stage": affected.stage, "key": affected.key });
    let damage = |damage: &Damage| {
        json!({
            "path": damage.path.display().to_string(),
            "wrong": damage.wrong.to_string(),
            "aside": damage.aside.as_ref().map(|aside| aside.display().to_string()),
            "needed_by": damage.affected.iter().map(affected).collect::<Vec<_>>(),
        })
    };
    let lost = |(lost, why): &(Affected, String)| json!({ "stage": lost.stage, "key": lost.key, "why": why });
    let repaired = repaired.map(|repaired| {
        json!({
            "whole": repaired.whole.iter().map(affected).collect::<Vec<_>>(),
            "lost": repaired.lost.iter().map(lost).collect::<Vec<_>>(),
        })
    });
    json!({
        "results": report.records,
        "objects": report.objects,
        "groups": report.groups,
        "checkpoints": report.checkpoints,
        "bytes": report.bytes,
        "unneeded": report.unneeded,
        "notes": report.notes,
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
        "repaired": repaired,
    })
}
