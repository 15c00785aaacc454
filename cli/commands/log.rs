//! `blip log`: what happened in a run, from its event log, also while it is being written.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use blip_engine::event::Logged;
use blip_engine::{Event, Reader};
use blip_grammar::nearest;

use crate::args::{Format, Log};
use crate::cache_folder;
use crate::console::Console;
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::progress::lines::Lines;

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Shows it.
pub(crate) fn run(args: &Log, console: &mut Console) -> Result<u8, Failure> {
    let (reader, runs) = cache_folder::open(&args.read.cache)?;
    let run = cache_folder::find(&runs, args.run.as_deref())?;
    let path = reader.log_path(run);
    let fault = |error: std::io::Error| Fault::io("read the event log", &path, &error);
    if let Some(stage) = &args.stage {
        known(&reader, run, &path, stage)?;
    }
    let mut log = BufReader::new(File::open(&path).map_err(fault)?);
    let mut shown = Shown {
        args,
        lines: Lines::default(),
        pid: 0,
        ended: false,
    };
    let mut line = String::new();
    loop {
        // The first lines say whose run it is.
        let gone = args.follow
            && shown.pid != 0
            && !reader
                .at_work()
                .iter()
                .any(|holder| holder.pid == shown.pid);
        // What is there is read after that, so that the last words of a run that just ended are not
        // missed.
        while log.read_line(&mut line).map_err(fault)? > 0 {
            // The end of a line that is being written comes later.
            if line.ends_with('\n') {
                shown.line(&line, console);
                line.clear();
            }
        }
        if !console.flush() || !args.follow || shown.ended {
            return Ok(exit_code::DONE);
        }
        if gone {
            console.note("the run's process is gone: it was broken off");
            return Ok(exit_code::DONE);
        }
        thread::sleep(POLL);
    }
}

/// A stage that the run does not have is more likely a slip than a wish to see nothing.
fn known(reader: &Reader, run: &str, path: &Path, stage: &str) -> Result<(), Fault> {
    let log = reader
        .log(run)
        .map_err(|error| Fault::io("read the event log", path, &error))?;
    let stages = log.events.iter().find_map(|logged| match &logged.event {
        Event::RunStarted { stages, .. } => Some(stages),
        _ => None,
    });
    match stages {
        Some(stages) if !stages.iter().any(|known| **known == *stage) => {
            let help = match nearest(stage, stages.iter().map(Arc::as_ref)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", stages.join(", ")),
            };
            Err(Fault::usage(
                format!("the run {run} has no stage `{stage}`"),
                help,
            ))
        }
        _ => Ok(()),
    }
}

/// What was shown so far.
struct Shown<'a> {
    args: &'a Log,
    lines: Lines,
    pid: u32,
    ended: bool,
}

impl Shown<'_> {
    fn line(&mut self, line: &str, console: &mut Console) {
        // A line that a full disk cut short is passed over.
        let Ok(logged) = serde_json::from_str::<Logged>(line) else {
            return;
        };
        match &logged.event {
            Event::RunStarted { pid, .. } => self.pid = *pid,
            Event::RunFinished { .. } => self.ended = true,
            _ => {}
        }
        let text = self.lines.line(logged.at_ms, &logged.event);
        let wanted =
            self.args.stage.is_none() || logged.event.stage() == self.args.stage.as_deref();
        match self.args.format {
            _ if !wanted => {}
            Format::Json => console.line(line.trim_end()),
            Format::Text => text.into_iter().for_each(|text| console.line(text)),
        }
    }
}
