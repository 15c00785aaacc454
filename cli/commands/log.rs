//! `blip log`: the events of a run, also while it is active.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use blip_engine::event::LogEntry;
use blip_engine::{CacheReader, Event};
use blip_grammar::nearest;

use crate::args::{Format, Log};
use crate::console::Console;
use crate::error::{CommandError, ErrorMessage};
use crate::progress::lines::EventLines;
use crate::{exit_code, run_history};

/// How often `--follow` checks for new events.
const POLL: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &Log, console: &mut Console) -> Result<u8, CommandError> {
    let (reader, runs) = run_history::open(&args.dir.cache)?;
    let run = run_history::find(&runs, args.run.as_deref())?;
    let path = reader.log_path(run);
    if let Some(stage) = &args.stage {
        require_stage(&reader, run, &path, stage)?;
    }
    let read_error = |error| ErrorMessage::io("read the event log", &path, &error);
    let mut log = BufReader::new(File::open(&path).map_err(read_error)?);
    let mut printer = LogPrinter {
        args,
        lines: EventLines::default(),
        pid: 0,
        ended: false,
    };
    let mut line = String::new();
    loop {
        // Checked before reading: a run that ends between the two has written its last events by
        // the time they are read.
        let is_dead = args.follow && printer.pid != 0 && !is_active(&reader, printer.pid);
        while log.read_line(&mut line).map_err(read_error)? > 0 {
            // A line without its line break is still being written: the next read completes it.
            if line.ends_with('\n') {
                printer.line(&line, console);
                line.clear();
            }
        }
        if !console.flush() || !args.follow || printer.ended {
            return Ok(exit_code::SUCCESS);
        }
        if is_dead {
            console.note("the run was aborted: its process no longer exists");
            return Ok(exit_code::SUCCESS);
        }
        thread::sleep(POLL);
    }
}

fn is_active(reader: &CacheReader, pid: u32) -> bool {
    reader.at_work().iter().any(|holder| holder.pid == pid)
}

/// Rejects a stage that the run does not have, instead of printing nothing.
fn require_stage(
    reader: &CacheReader,
    run: &str,
    path: &Path,
    stage: &str,
) -> Result<(), ErrorMessage> {
    let log = reader
        .log(run)
        .map_err(|error| ErrorMessage::io("read the event log", path, &error))?;
    let stages = log.events.iter().find_map(|logged| match &logged.event {
        Event::RunStarted { stages, .. } => Some(stages),
        _ => None,
    });
    let Some(stages) = stages else {
        return Ok(());
    };
    if stages.iter().any(|known| **known == *stage) {
        return Ok(());
    }
    let help = match nearest(stage, stages.iter().map(Arc::as_ref)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("available stages: {}", stages.join(", ")),
    };
    Err(ErrorMessage::usage(
        format!("run {run} has no stage `{stage}`"),
        help,
    ))
}

/// Prints lines of an event log.
struct LogPrinter<'a> {
    args: &'a Log,
    lines: EventLines,
    /// The run's process; 0 until its first event was read.
    pid: u32,
    ended: bool,
}

impl LogPrinter<'_> {
    fn line(&mut self, line: &str, console: &mut Console) {
        // A full disk can truncate a line in the middle of the log; it is skipped.
        let Ok(logged) = serde_json::from_str::<LogEntry>(line) else {
            return;
        };
        match &logged.event {
            Event::RunStarted { pid, .. } => self.pid = *pid,
            Event::RunFinished { .. } => self.ended = true,
            _ => {}
        }
        // Events of other stages are formatted too: the formatter tracks the state of the run.
        let text = self.lines.format(logged.at_ms, &logged.event);
        let stage = self.args.stage.as_deref();
        if stage.is_some() && logged.event.stage() != stage {
            return;
        }
        match (self.args.format, text) {
            (Format::Json, _) => console.json(&logged),
            (Format::Text, Some(text)) => console.line(text),
            (Format::Text, None) => {}
        }
    }
}
