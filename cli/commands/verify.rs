//! `blip cache verify`: finds corrupt files, and recomputes the results that need them.

use std::path::Path;

use blip_engine::{
    AffectedResult, Corruption, IndexKind, RepairReport, RunOptions, StopSignal, VerifyLevel,
    VerifyReport,
};
use serde_json::{Value, json};

use super::cache::{announce_wait, open_engine};
use crate::args::cache::Verify;
use crate::args::{CacheArgs, DeviceArgs, Format, Index, WorkflowArgs};
use crate::console::Console;
use crate::error::{CommandError, ErrorMessage};
use crate::humanize::{bytes, plural, plural_u64};
use crate::workflow_file::{self, LoadedWorkflow};
use crate::{exit_code, progress, signals};

/// Verifies a cache. Corrupt files fail the command even though they are moved away, since results
/// have to be recomputed; with `--repair`, only results that could not be recomputed do.
pub(crate) fn run(args: &Verify, console: &mut Console) -> Result<u8, CommandError> {
    check_overrides(args)?;
    let level = match args.subset {
        _ if args.full => VerifyLevel::Full,
        Some(share) => VerifyLevel::Subset(share),
        None => VerifyLevel::Quick,
    };
    // Before anything is moved: a workflow that cannot be read repairs nothing.
    let workflow = match &args.repair {
        Some(file) => Some(load(file, args, console)?),
        None => None,
    };
    let engine = open_engine(&args.dir, IndexKind::Sled)?;
    let report = engine.verify_while(level, announce_wait(args.no_wait, console))?;
    let repaired = match workflow {
        Some(workflow) if !report.corruptions.is_empty() => {
            Some(repair(workflow, args, &report, console)?)
        }
        _ => None,
    };
    match args.format {
        Format::Json => console.json(&report_json(&report, repaired.as_ref())),
        Format::Text => print(&report, repaired.as_ref(), console),
    }
    let intact = match &repaired {
        Some(repaired) => repaired.failed.is_empty(),
        None => report.corruptions.is_empty(),
    };
    Ok(if !report.unreadable.is_empty() {
        exit_code::IO
    } else if intact {
        exit_code::SUCCESS
    } else {
        exit_code::FAILED
    })
}

/// Params belong to the workflow that `--repair` names; clap cannot express this for a flattened
/// group.
fn check_overrides(args: &Verify) -> Result<(), ErrorMessage> {
    let overridden = !args.overrides.set.is_empty() || args.overrides.params.is_some();
    if args.repair.is_none() && overridden {
        return Err(ErrorMessage::usage(
            "--set and --params require --repair",
            "name the workflow that computes the corrupt results: --repair FILE",
        ));
    }
    Ok(())
}

fn load(file: &Path, args: &Verify, console: &mut Console) -> Result<LoadedWorkflow, CommandError> {
    let workflow = WorkflowArgs {
        file: file.to_path_buf(),
        overrides: args.overrides.clone(),
    };
    workflow_file::load(&workflow, Some(&args.dir.cache), console)
}

fn repair(
    mut loaded: LoadedWorkflow,
    args: &Verify,
    report: &VerifyReport,
    console: &Console,
) -> Result<RepairReport, CommandError> {
    let cache = CacheArgs {
        cache: Some(args.dir.cache.clone()),
        index: Index::Sled,
    };
    let engine = loaded.engine(&cache, DeviceArgs::default())?;
    let stop = StopSignal::default();
    signals::install(stop.clone())?;
    let options = RunOptions {
        no_wait: args.no_wait,
        stop,
        ..RunOptions::default()
    };
    let mut shown = progress::listener(args.format, false, console);
    Ok(engine.repair(report, &loaded.workflow, &options, &mut [shown.as_mut()])?)
}

fn print(report: &VerifyReport, repaired: Option<&RepairReport>, console: &mut Console) {
    for damage in &report.corruptions {
        print_corrupt_file(damage, console);
    }
    for error in &report.unreadable {
        console.note(format!("warning: {error}"));
    }
    for note in &report.notes {
        console.note(format!("warning: {note}"));
    }
    let found = match report.corruptions.len() {
        0 => "no corrupt files".to_owned(),
        files => plural(files, "corrupt file"),
    };
    let unreadable = match report.unreadable.len() {
        0 => String::new(),
        files => format!(", {} not readable", plural(files, "file")),
    };
    console.line(format!(
        "checked {} and {}, read {}: {found}{unreadable}",
        plural_u64(report.records, "result"),
        plural_u64(report.objects, "object"),
        bytes(report.bytes),
    ));
    match repaired {
        Some(repaired) => print_repair(repaired, console),
        None if report.corruptions.is_empty() => {}
        None => console.note("the next run recomputes the affected results"),
    }
}

fn print_corrupt_file(damage: &Corruption, console: &mut Console) {
    console.line(format!("{}: {}", damage.path.display(), damage.kind));
    if let Some(moved_to) = &damage.moved_to {
        console.line(format!("  moved to {}", moved_to.display()));
    }
    for affected in &damage.affected {
        console.line(format!("  needed by {}", result_name(affected)));
    }
}

fn print_repair(repaired: &RepairReport, console: &mut Console) {
    for affected in &repaired.restored {
        console.line(format!("recomputed {}", result_name(affected)));
    }
    for (affected, reason) in &repaired.failed {
        let name = result_name(affected);
        console.line(format!("could not recompute {name}: {reason}"));
    }
}

/// `` `captioner` (1f2e3d4c) ``; records of old versions have no stage name.
fn result_name(affected: &AffectedResult) -> String {
    let key = affected.key.short();
    if affected.stage.is_empty() {
        format!("a stage ({key})")
    } else {
        format!("`{}` ({key})", affected.stage)
    }
}

fn report_json(report: &VerifyReport, repaired: Option<&RepairReport>) -> Value {
    let corrupt: Vec<Value> = report.corruptions.iter().map(corrupt_file_json).collect();
    json!({
        "results": report.records,
        "objects": report.objects,
        "groups": report.groups,
        "checkpoints": report.checkpoints,
        "bytes": report.bytes,
        "unreferenced": report.unreferenced,
        "notes": report.notes,
        "corrupt": corrupt,
        "unreadable": report.unreadable,
        "repair": repaired.map(repair_json),
    })
}

fn corrupt_file_json(damage: &Corruption) -> Value {
    let needed_by: Vec<Value> = damage.affected.iter().map(affected_json).collect();
    json!({
        "path": damage.path.display().to_string(),
        "problem": damage.kind.to_string(),
        "moved_to": damage.moved_to.as_ref().map(|path| path.display().to_string()),
        "needed_by": needed_by,
    })
}

fn repair_json(repaired: &RepairReport) -> Value {
    let recomputed: Vec<Value> = repaired.restored.iter().map(affected_json).collect();
    let failed: Vec<Value> = repaired
        .failed
        .iter()
        .map(|(affected, reason)| {
            json!({ "stage": affected.stage, "key": affected.key, "reason": reason })
        })
        .collect();
    json!({ "recomputed": recomputed, "failed": failed })
}

fn affected_json(affected: &AffectedResult) -> Value {
    json!({ "stage": affected.stage, "key": affected.key })
}
