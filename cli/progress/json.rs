//! Events as JSON, one a line on standard output, the same lines as in the run's event log.

use std::io::{self, Write};

use blip_engine::event::Logged;
use blip_engine::{Event, Listener};

/// Prints every event.
#[derive(Debug)]
pub(crate) struct Json;

impl Listener for Json {
    fn event(&mut self, at_ms: u64, event: &Event) {
        let mut line = serde_json::to_string(&Logged {
            at_ms,
            event: event.clone(),
        })
        .expect("events are plain data");
        line.push('\n');
        // A run goes on when nobody reads about it any more; its event log has everything.
        let mut out = io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}
