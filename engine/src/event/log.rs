//! Writes the event log of a run. A thread of its own makes lines of events: of thousands of stages
//! that have nothing to do, that is the most work there is.

use std::path::Path;
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};
use serde::Serialize;

use super::{Event, Listener};
use crate::cache::disk::{Disk, DiskError, DiskFile, Syscall};

/// The name of the event log in a run's folder.
pub(crate) const LOG_NAME: &str = "events.jsonl";
/// Events are held back up to so many, and so long; less when the run has a moment.
const HELD_MAX: usize = 512;
const HELD_MS: u64 = 100;
/// As many times that may wait to be written. A disk that is slower than the run slows it down.
const WAITING_MAX: usize = 16;

/// An event with the milliseconds since the run began.
type Timed = (u64, Event);

/// Takes the events of a run. When it is dropped, all of them are written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    held: Vec<Timed>,
    /// Nothing when it is being dropped.
    thread: Option<(Sender<Vec<Timed>>, JoinHandle<()>)>,
}

impl LogWriter {
    /// Starts the log of a run.
    pub(crate) fn create(disk: &Disk, folder: &Path) -> Result<Self, DiskError> {
        let path = folder.join(LOG_NAME);
        let file = disk.create(&path)?;
        let (events_in, events_out) = channel::bounded(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(file, &events_out));
        let thread = thread.map_err(|source| DiskError {
            call: Syscall::Create,
            path,
            source,
        })?;
        Ok(Self {
            held: Vec::new(),
            thread: Some((events_in, thread)),
        })
    }
}

impl Listener for LogWriter {
    fn event(&mut self, at_ms: u64, event: &Event) {
        self.held.push((at_ms, event.clone()));
        let since_ms = self.held.first().map_or(at_ms, |(since_ms, _)| *since_ms);
        if self.held.len() >= HELD_MAX || at_ms >= since_ms + HELD_MS {
            self.idle();
        }
    }

    fn idle(&mut self) {
        if let (Some((events, _)), false) = (&self.thread, self.held.is_empty()) {
            // Nobody takes them if the thread is gone, which only a bug can make it.
            let _ = events.send(std::mem::take(&mut self.held));
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.idle();
        if let Some((events, thread)) = self.thread.take() {
            drop(events);
            if thread.join().is_err() {
                tracing::error!("the event log is not whole: its thread panicked");
            }
        }
    }
}

/// A line of the event log, borrowed.
#[derive(Serialize)]
struct LoggedRef<'a> {
    at_ms: u64,
    #[serde(flatten)]
    event: &'a Event,
}

/// Writes events until there are no more. The log is no result: a disk that is full stops the run
/// where results are written, not here.
fn write(mut file: DiskFile, events: &Receiver<Vec<Timed>>) {
    let mut lines: Vec<u8> = Vec::new();
    for held in events {
        for (at_ms, event) in &held {
            serde_json::to_writer(
                &mut lines,
                &LoggedRef {
                    at_ms: *at_ms,
                    event,
                },
            )
            .expect("events are plain data");
            lines.push(b'\n');
        }
        // Whole lines in one write: a reader, or a kill, sees at most one that is cut short.
        let written = file.write(&lines);
        lines.clear();
        if let Err(error) = written {
            tracing::warn!(%error, "the event log could not be written");
            lines.push(b'\n'); // what comes is kept apart from a line that was cut short
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::Logged;
    use super::*;
    use crate::cache::disk::{FaultAction, Hook};

    fn numbered(number: usize) -> Event {
        Event::Warning {
            stage: None,
            text: number.to_string(),
        }
    }

    /// The numbers in a log; lines that are cut short are left out.
    fn numbers(folder: &Path) -> Vec<usize> {
        let text = fs::read_to_string(folder.join(LOG_NAME)).unwrap();
        let number = |line: &str| match serde_json::from_str::<Logged>(line).ok()?.event {
            Event::Warning { text, .. } => text.parse().ok(),
            _ => None,
        };
        text.lines().filter_map(number).collect()
    }

    #[test]
    fn all_events_are_there_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(&Disk::default(), folder.path()).unwrap();
        let count = 2 * WAITING_MAX * HELD_MAX + 7;
        (0..count).for_each(|number| log.event(0, &numbered(number)));
        drop(log);
        assert_eq!(numbers(folder.path()), (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn events_are_held_back_for_a_moment_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(&Disk::default(), folder.path()).unwrap();
        log.event(0, &numbered(0));
        assert_eq!(log.held.len(), 1);
        log.event(HELD_MS, &numbered(1));
        assert_eq!(log.held.len(), 0);
    }

    /// A disk on which the second line is cut short.
    struct Full(AtomicUsize);

    impl Hook for Full {
        fn before(&self, call: Syscall, _: &Path) -> FaultAction {
            match (
                call,
                self.0
                    .fetch_add(usize::from(call == Syscall::Write), Ordering::SeqCst),
            ) {
                (Syscall::Write, 1) => FaultAction::Short,
                (Syscall::Write, 2) => FaultAction::Fail(io::ErrorKind::StorageFull.into()),
                _ => FaultAction::Make,
            }
        }

        fn after(&self, _: Syscall, _: &Path) {}
    }

    #[test]
    fn a_line_that_is_cut_short_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::with_hook(Arc::new(Full(AtomicUsize::new(0))));
        let mut log = LogWriter::create(&disk, folder.path()).unwrap();
        for number in 0..4 {
            log.event(0, &numbered(number));
            log.idle();
        }
        drop(log);
        assert_eq!(numbers(folder.path()), [0, 2, 3]);
    }
}
