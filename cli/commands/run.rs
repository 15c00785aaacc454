//! `blip run`: runs a workflow and prints a summary.

use std::io;
use std::path::Path;

use blip_engine::cache::disk::Disk;
use blip_engine::trace::ChromeTrace;
use blip_engine::{Engine, Event, Listener, OpError, Outcome, RunOptions, StopSignal};
use blip_ops::report::{Report, ReportError};

use crate::args::{Format, Run};
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::exit_code;
use crate::humanize::plural;
use crate::lockfile::StoredLockfile;
use crate::run_view::RunView;
use crate::workflow_file::{LoadedWorkflow, WorkflowSource};
use crate::{machine, progress, signals, summary};

pub(crate) fn run(args: &Run, verbose: bool, console: &mut Console) -> Result<u8, CommandError> {
    let source = WorkflowSource::read(&args.workflow)?;
    let resources = machine::resources(args.jobs, args.memory);
    let (engine, name_in_cache) = source.engine(&args.cache, args.device, resources)?;
    // Looks up the last run's results while the workflow is checked. With targets this would be
    // slower than the run itself, since it looks at all stages.
    let prefetch = args
        .targets
        .is_empty()
        .then(|| engine.prefetch(&name_in_cache));
    let mut loaded = source.check(engine.cache_folder(), console)?;
    let missing = machine::missing_gpus(&loaded.workflow);
    if !missing.is_empty() {
        return Err(CommandError::Workflow(Box::new(loaded.source), missing));
    }
    loaded.workflow.name = name_in_cache;
    let stop = StopSignal::default();
    signals::install(stop.clone())?;
    let lockfile = StoredLockfile::open(&loaded.base);
    if args.lock {
        lockfile.check()?;
    }
    let file_name = file_name(&args.workflow.file);
    let locked = if args.locked {
        Some(lockfile.entry(&file_name)?)
    } else {
        None
    };
    let report = open_report(args, &loaded)?;
    let mut trace = args.trace.as_deref().map(create_trace).transpose()?;
    let options = RunOptions {
        targets: args.targets.clone(),
        keep_going: args.keep_going,
        no_wait: args.no_wait,
        stop: stop.clone(),
        retry_bad: args.retry_bad,
        overwrite: args.overwrite,
        locked,
        prefetch,
        repair: None,
    };
    let mut shown = progress::listener(args.format, verbose, console);
    let mut viewer = Viewer::default();
    let mut listeners: Vec<&mut dyn Listener> = vec![shown.as_mut(), &mut viewer];
    listeners.extend(trace.as_mut().map(|trace| trace as &mut dyn Listener));
    let result = engine.run(&loaded.workflow, &options, &mut listeners);
    // Removes the bars before the summary is printed.
    drop(shown);
    if let (Some(trace), Some(path)) = (trace, &args.trace) {
        trace
            .finish()
            .map_err(|error| ErrorMessage::io("write the trace", path, &error))?;
    }
    let finished = match result {
        Ok(finished) => finished,
        // Interrupted while it waited for another process: not an error.
        Err(_) if stop.is_requested() => return Ok(exit_code::INTERRUPTED),
        Err(error) => return Err(error.into()),
    };
    // A partial run would write an incomplete entry, and a locked one must not change the file.
    let is_complete = finished.outcome == Outcome::Done && args.targets.is_empty() && !args.locked;
    if is_complete && (args.lock || lockfile.exists()) {
        let updated = lockfile.update(&file_name, engine.locked(&finished), &Disk::default());
        not_updated(&lockfile, updated, console)?;
    }
    if args.format == Format::Text {
        print_summary(&viewer.0, &engine, finished.outcome, console);
    }
    if let Some(report) = &report {
        let keep_waiting = || !args.no_wait && !stop.is_requested();
        let files = report
            .write(&engine.reader(), &finished, args.overwrite, keep_waiting)
            .map_err(report_error)?;
        if args.format == Format::Text {
            let (files, folder) = (plural(files, "file"), report.folder().display());
            console.line(format!("report: {files} in {folder}"));
        }
    }
    Ok(match finished.outcome {
        Outcome::Done => exit_code::SUCCESS,
        Outcome::Failed if finished.is_busy => exit_code::BUSY,
        Outcome::Failed => exit_code::FAILED,
        Outcome::Interrupted => exit_code::INTERRUPTED,
    })
}

/// A file that was no lock file before the run is only a warning: the run did not ask for it.
fn not_updated(
    lockfile: &StoredLockfile,
    updated: Result<(), ErrorMessage>,
    console: &mut Console,
) -> Result<(), ErrorMessage> {
    let Err(error) = updated else {
        return Ok(());
    };
    if lockfile.check().is_ok() {
        return Err(error);
    }
    console.note(format!(
        "warning: the lock file was not updated: {}",
        error.message
    ));
    Ok(())
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn create_trace(path: &Path) -> Result<ChromeTrace, ErrorMessage> {
    ChromeTrace::create(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => ErrorMessage::usage(
            format!("`{}` exists and is not a trace of blip", path.display()),
            "move it away, or name another file with --trace",
        ),
        _ => ErrorMessage::io("write the trace", path, &error),
    })
}

fn print_summary(view: &RunView, engine: &Engine, outcome: Outcome, console: &mut Console) {
    summary::print(view, "running", &engine.reader(), console);
    console.line("");
    let cache = engine.cache_folder().display();
    console.styled(&[
        (&summary::totals(view), summary::outcome_style(outcome)),
        (&format!(" (run {}, cache {cache})", view.run), Style::Dim),
    ]);
}

/// The report of the run, if one is asked for. What is in its way is found before the run.
fn open_report(args: &Run, loaded: &LoadedWorkflow) -> Result<Option<Report>, ErrorMessage> {
    let Some(folder) = &args.report else {
        return Ok(None);
    };
    let report = Report::at(folder).map_err(report_error)?;
    let mut exports = loaded.workflow.graph.exports();
    let is_same = |path: &str| report.writes(&loaded.base.join(path));
    if let Some((export, _)) = exports.find(|(export, _)| is_same(&export.path)) {
        return Err(ErrorMessage::usage(
            format!(
                "the export `{}` and the report are the same file",
                export.path
            ),
            "name another folder with --report",
        ));
    }
    if !args.overwrite {
        report.check().map_err(report_error)?;
    }
    Ok(Some(report))
}

fn report_error(error: ReportError) -> ErrorMessage {
    let exit_code = match error {
        ReportError::Folder(_) => exit_code::USAGE,
        ReportError::Publish(OpError::Failed { .. }) => exit_code::FAILED,
        _ => exit_code::IO,
    };
    ErrorMessage {
        message: error.to_string(),
        help: error.help(),
        exit_code,
    }
}

/// Collects the state of the run for the summary.
#[derive(Default)]
struct Viewer(RunView);

impl Listener for Viewer {
    fn event(&mut self, at_ms: u64, event: &Event) {
        self.0.apply(at_ms, event);
    }
}
