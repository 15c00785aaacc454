//! Where the time of a run went, as a trace file: for `chrome://tracing`, Perfetto and whatever
//! else reads that format.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::event::{Event, Listener, StageEnd, Status};

/// How every trace begins: the first event names the process. Other programs do not write it in
/// exactly this form.
const TRACE_START: &[u8] =
    b"[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":";

/// Writes the trace of a run. Every stage that runs is a bar, in the first lane that is free;
/// metrics of steps are counters.
#[derive(Debug)]
pub struct ChromeTrace {
    file: BufWriter<File>,
    has_events: bool,
    /// Lane and start, in milliseconds, of the stages that run.
    running: BTreeMap<String, (usize, u64)>,
    /// The first failure to write. A listener cannot return it, and nothing is written after it.
    error: Option<io::Error>,
}

impl ChromeTrace {
    /// Starts a trace in a file. A trace that is there is replaced, anything else is not.
    ///
    /// # Errors
    /// As creating the file gives; [`io::ErrorKind::AlreadyExists`] for a file that is no trace.
    pub fn create(path: &Path) -> io::Result<Self> {
        // Not truncated before it has been read. A pipe or a terminal has no content to lose.
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if file.metadata()?.is_file() {
            if !is_trace(&mut file)? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            file.rewind()?;
            file.set_len(0)?;
        }
        let file = BufWriter::new(file);
        Ok(Self {
            file,
            has_events: false,
            running: BTreeMap::new(),
            error: None,
        })
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The first failure to write to it.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.has_events {
            // A run that did not begin. By this the file is known as a trace.
            self.put(&name_of_process(""));
        }
        let end = b"\n]\n";
        match self.error.take() {
            Some(error) => Err(error),
            None => self.file.write_all(end).and_then(|()| self.file.flush()),
        }
    }

    fn put(&mut self, event: &Value) {
        let before = if std::mem::replace(&mut self.has_events, true) {
            ",\n"
        } else {
            "[\n"
        };
        if self.error.is_none() {
            self.error = write!(self.file, "{before}{event}").err();
        }
    }

    fn started(&mut self, at_ms: u64, stage: &str) {
        let lanes: Vec<usize> = self.running.values().map(|(lane, _)| *lane).collect();
        let lane = (1..).find(|lane| !lanes.contains(lane)).unwrap_or(1);
        self.running.insert(stage.to_owned(), (lane, at_ms));
    }

    fn ended(&mut self, at_ms: u64, end: &StageEnd) {
        let status = serde_json::to_value(end.status).unwrap_or_default();
        let args = json!({
            "status": status,
            "op": end.op,
            "key": end.key,
            "items": end.count,
            "units": end.units,
        });
        match self.running.remove(&*end.stage) {
            Some((lane, since)) => self.put(&json!({
                "name": end.stage, "cat": end.op, "ph": "X", "pid": 1, "tid": lane,
                "ts": since * 1000, "dur": (at_ms - since) * 1000, "args": args,
            })),
            // Thousands of stages that were reused would hide the others.
            None if matches!(end.status, Status::Reused | Status::UpToDate) => {}
            None => self.instant(at_ms, &end.stage, &args),
        }
    }

    fn instant(&mut self, at_ms: u64, name: &str, args: &Value) {
        self.put(&json!({
            "name": name, "ph": "i", "s": "p", "pid": 1, "tid": 0, "ts": at_ms * 1000, "args": args,
        }));
    }
}

/// Whether a file is empty or begins as traces do, whole ones and those of killed runs.
fn is_trace(file: &mut File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(TRACE_START.len() as u64)
        .read_to_end(&mut start)?;
    Ok(start.is_empty() || start == TRACE_START)
}

fn name_of_process(name: &str) -> Value {
    json!({ "name": "process_name", "ph": "M", "pid": 1, "args": { "name": name } })
}

impl Listener for ChromeTrace {
    fn event(&mut self, at_ms: u64, event: &Event) {
        match event {
            Event::RunStarted { run, workflow, .. } => {
                let name = format!("{workflow} ({run})");
                self.put(&name_of_process(&name));
            }
            Event::StageStarted { stage, .. } => self.started(at_ms, stage),
            Event::StageFinished(end) => self.ended(at_ms, end),
            Event::Metric { stage, values, .. } => {
                let values: serde_json::Map<String, Value> = values
                    .iter()
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect();
                self.put(&json!({
                    "name": stage, "ph": "C", "pid": 1, "ts": at_ms * 1000, "args": values,
                }));
            }
            Event::Retrying {
                stage,
                what,
                attempt,
                ..
            } => {
                let args = json!({ "retrying": what, "attempt": attempt });
                self.instant(at_ms, stage, &args);
            }
            Event::Waiting {
                stage, pid, host, ..
            } => {
                let name = stage.as_deref().unwrap_or("the cache");
                let args = json!({ "waiting for": format!("process {pid} on {host}") });
                self.instant(at_ms, name, &args);
            }
            Event::Exported {
                stage,
                path,
                written: true,
                ..
            } => {
                self.instant(at_ms, stage, &json!({ "exported": path }));
            }
            _ => {}
        }
    }
}
