//! Events as JSON on standard output, one per line, in the format of the event log.

use std::io::{self, Write};

use blip_engine::event::LogEntry;
use blip_engine::{Event, Listener};

#[derive(Debug)]
pub(crate) struct Json;

impl Listener for Json {
    fn event(&mut self, at_ms: u64, event: &Event) {
        let logged = LogEntry {
            at_ms,
            event: event.clone(),
        };
        let mut line = serde_json::to_string(&logged).expect("events are plain data");
        line.push('\n');
        // A closed pipe does not stop the run: the event log is complete anyway.
        let mut out = io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}
