//! Who receives the events of a run.

use std::time::Instant;

use super::Event;

/// Receives every event of a run, on the thread that owns the run.
pub trait Listener {
    /// `at_ms` is the time since the run began.
    fn event(&mut self, at_ms: u64, event: &Event);
    /// Nothing happens for the moment: what was buffered can be shown.
    fn idle(&mut self) {}
}

/// Passes the events of a run on to its listeners.
pub(crate) struct EventBus<'l> {
    pub(crate) started: Instant,
    pub(crate) listeners: Vec<&'l mut dyn Listener>,
}

impl EventBus<'_> {
    pub(crate) fn emit(&mut self, event: &Event) {
        let at_ms = self.elapsed_ms();
        for listener in &mut self.listeners {
            listener.event(at_ms, event);
        }
    }

    pub(crate) fn idle(&mut self) {
        for listener in &mut self.listeners {
            listener.idle();
        }
    }

    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
