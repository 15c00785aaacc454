//! Events as JSON on standard output, one per line, in the format of the event log.

use std::io::{self, Write};

use blip_engine::event::LogEntry;
use blip_engine::{Event, Listener};

use crate::console::{FirstError, json_line};

#[derive(Debug)]
pub(crate) struct Json {
    /// Does not stop the run: the event log is complete anyway.
    pub(crate) error: FirstError,
}

impl Listener for Json {
    fn event(&mut self, at_ms: u64, event: &Event) {
        let line = json_line(&LogEntry {
            at_ms,
            event: event.clone(),
        });
        self.error.attempt(|| {
            let mut out = io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush())
        });
    }
}
