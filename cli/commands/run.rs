//! `blip run`: runs a workflow and tells what came of it.

use std::path::Path;

use blip_engine::trace::ChromeTrace;
use blip_engine::{Engine, Event, Listener, Outcome, RunOptions, StopSignal, Summary};

use crate::amounts::plural;
use crate::args::{Format, Run};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::lock_file::LockFile;
use crate::view::RunView;
use crate::workflow_file::Text;
use crate::{progress, signals, summary};

/// Runs.
pub(crate) fn run(args: &Run, verbose: bool, console: &mut Console) -> Result<u8, Failure> {
    let text = Text::read(&args.workflow)?;
    let (engine, name_in_cache) = text.engine(&args.cache, args.jobs, args.memory);
    // Who asks for some of the stages does not wait for a look at all of them.
    let ahead = args
        .targets
        .is_empty()
        .then(|| engine.prefetch(&name_in_cache));
    let mut loaded = text.check(console)?;
    loaded.workflow.name = name_in_cache;
    let stop = StopSignal::default();
    signals::listen(stop.clone())?;
    let lock_file = LockFile::open(&loaded.base)?;
    let name = args
        .workflow
        .file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let locked = if args.locked {
        Some(lock_file.locked(&name)?)
    } else {
        None
    };
    let mut trace = args.trace.as_deref().map(trace).transpose()?;
    let options = RunOptions {
        targets: args.targets.clone(),
        keep_going: args.keep_going,
        no_wait: args.no_wait,
        stop: stop.clone(),
        retry_bad: args.retry_bad,
        locked,
        ahead,
    };
    let mut shown = progress::listener(args.format, verbose);
    let mut viewer = Viewer::default();
    let mut listeners: Vec<&mut dyn Listener> = vec![shown.as_mut(), &mut viewer];
    listeners.extend(trace.as_mut().map(|trace| trace as &mut dyn Listener));
    let ran = engine.run(&loaded.workflow, &options, &mut listeners);
    drop(shown);
    if let (Some(trace), Some(path)) = (trace, &args.trace) {
        trace
            .finish()
            .map_err(|error| Fault::io("write the trace", path, &error))?;
    }
    let ran = match ran {
        Ok(ran) => ran,
        // Stopped while it waited for another run.
        Err(_) if stop.is_requested() => return Ok(exit_code::INTERRUPTED),
        Err(error) => return Err(error.into()),
    };
    let outcome = ran.outcome;
    // Only a whole run says what a workflow comes to.
    let whole = outcome == Outcome::Done && args.targets.is_empty() && !args.locked;
    if whole && (args.lock || lock_file.exists()) {
        lock_file.update(&name, engine.locked(&ran))?;
    }
    if args.format == Format::Text {
        let view = viewer.0;
        let reader = engine.reader();
        let record = |key| reader.record(&key);
        summary::print(
            &view,
            |end| {
                end.key
                    .and_then(record)
                    .map_or(Vec::new(), |record| record.rejected)
            },
            console,
        );
        let style = if outcome == Outcome::Done {
            Style::Good
        } else {
            Style::Bad
        };
        console.line("");
        let place = format!(
            " (run {}, cache {})",
            view.run,
            engine.cache_folder().display()
        );
        console.pieces(&[(&summary::verdict(&view), style), (&place, Style::Dim)]);
    }
    if let Some(folder) = &args.report {
        report(folder, &engine, &ran, args.format, console)?;
    }
    Ok(match outcome {
        Outcome::Done => exit_code::DONE,
        Outcome::Failed => exit_code::FAILED,
        Outcome::Interrupted => exit_code::INTERRUPTED,
    })
}

/// Writes the report, also of a run that failed: of everything that has a result.
fn report(
    folder: &Path,
    engine: &Engine,
    ran: &Summary,
    format: Format,
    console: &mut Console,
) -> Result<(), Failure> {
    let written =
        blip_ops::report::write(folder, &engine.reader(), ran).map_err(|error| Fault {
            what: error.to_string(),
            help: error.help().to_owned(),
            code: exit_code::IO,
        })?;
    if format == Format::Text {
        console.line(format!(
            "report: {} in {}",
            plural(written.len(), "file"),
            folder.display()
        ));
    }
    Ok(())
}

fn trace(path: &Path) -> Result<ChromeTrace, Fault> {
    ChromeTrace::create(path).map_err(|error| Fault::io("write the trace", path, &error))
}

/// Keeps the view of the run, for the tables at its end.
#[derive(Default)]
struct Viewer(RunView);

impl Listener for Viewer {
    fn event(&mut self, at_ms: u64, event: &Event) {
        self.0.apply(at_ms, event);
    }
}
