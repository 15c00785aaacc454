//! A request to stop a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Asks a run to stop. Clones share it: one is in the run, one where the user's wish arrives.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicU8>);

impl StopSignal {
    /// The first request lets stages finish their current unit of work; the second one stops at
    /// once.
    pub fn request(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it was requested twice: nothing is waited for any more.
    pub fn is_immediate(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }

    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}
