//! Writes the event log of a run. A thread of its own formats the events: of thousands of stages
//! that have nothing to do, that is the most work there is.

use std::path::Path;
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};
use serde::Serialize;

use super::{Event, Listener};
use crate::cache::disk::{Disk, DiskError, DiskFile, Syscall};

/// The name of the event log in a run's folder.
pub(crate) const LOG_NAME: &str = "events.jsonl";
/// Events are buffered up to this number and this long, or until the run is idle: a wake-up of the
/// thread for each would cost more than formatting it.
const BUFFERED_MAX: usize = 512;
const BUFFERED_MS: u64 = 100;
/// How many buffers may wait to be written. A disk that is slower than the run slows it down,
/// rather than let memory grow.
const WAITING_MAX: usize = 16;

/// An event with the milliseconds since the run began.
type TimedEvent = (u64, Event);

/// Writes the events of a run. Dropping it waits until all of them are written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    buffer: Vec<TimedEvent>,
    /// Nothing only while it is being dropped.
    thread: Option<(Sender<Vec<TimedEvent>>, JoinHandle<()>)>,
}

impl LogWriter {
    /// Starts the log of a run in its folder.
    pub(crate) fn create(disk: &Disk, folder: &Path) -> Result<Self, DiskError> {
        let path = folder.join(LOG_NAME);
        let file = disk.create(&path)?;
        let (buffers_in, buffers_out) = channel::bounded(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_buffers(file, &buffers_out));
        let thread = thread.map_err(|source| DiskError {
            call: Syscall::Create,
            path,
            source,
        })?;
        Ok(Self {
            buffer: Vec::new(),
            thread: Some((buffers_in, thread)),
        })
    }
}

impl Listener for LogWriter {
    fn event(&mut self, at_ms: u64, event: &Event) {
        self.buffer.push((at_ms, event.clone()));
        let oldest_ms = self
            .buffer
            .first()
            .map_or(at_ms, |(oldest_ms, _)| *oldest_ms);
        // Until the first event is in the log, readers do not know whose run it is.
        let is_first = matches!(event, Event::RunStarted { .. });
        if is_first || self.buffer.len() >= BUFFERED_MAX || at_ms >= oldest_ms + BUFFERED_MS {
            self.idle();
        }
    }

    fn idle(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if let Some((buffers, _)) = &self.thread {
            // This fails only if the thread has panicked, which is reported when it is joined.
            let _ = buffers.send(std::mem::take(&mut self.buffer));
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.idle();
        if let Some((buffers, thread)) = self.thread.take() {
            // The thread ends when the channel is closed and empty.
            drop(buffers);
            if thread.join().is_err() {
                tracing::error!("the event log is incomplete: its thread panicked");
            }
        }
    }
}

/// A [`LogEntry`](super::LogEntry), borrowed.
#[derive(Serialize)]
struct LogEntryRef<'a> {
    at_ms: u64,
    #[serde(flatten)]
    event: &'a Event,
}

/// Writes events until there are no more. The log is no result: a full disk stops the run where
/// results are written, not here.
fn write_buffers(mut file: DiskFile, buffers: &Receiver<Vec<TimedEvent>>) {
    let mut lines: Vec<u8> = Vec::new();
    for buffer in buffers {
        for (at_ms, event) in &buffer {
            let entry = LogEntryRef {
                at_ms: *at_ms,
                event,
            };
            serde_json::to_writer(&mut lines, &entry).expect("events are plain data");
            lines.push(b'\n');
        }
        // Whole lines in one write: a reader, or a kill, sees at most one truncated line.
        let written = file.write(&lines);
        lines.clear();
        if let Err(error) = written {
            tracing::warn!(%error, "could not write the event log");
            lines.push(b'\n'); // keeps the next event apart from a truncated line
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::LogEntry;
    use super::*;
    use crate::cache::disk::{FaultAction, Hook};

    fn numbered_event(number: usize) -> Event {
        Event::Warning {
            stage: None,
            text: number.to_string(),
        }
    }

    /// The numbers in a log; truncated lines are skipped.
    fn numbers(folder: &Path) -> Vec<usize> {
        let text = fs::read_to_string(folder.join(LOG_NAME)).unwrap();
        let number = |line: &str| match serde_json::from_str::<LogEntry>(line).ok()?.event {
            Event::Warning { text, .. } => text.parse().ok(),
            _ => None,
        };
        text.lines().filter_map(number).collect()
    }

    #[test]
    fn all_events_are_written_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(&Disk::default(), folder.path()).unwrap();
        let count = 2 * WAITING_MAX * BUFFERED_MAX + 7;
        (0..count).for_each(|number| log.event(0, &numbered_event(number)));
        drop(log);
        assert_eq!(numbers(folder.path()), (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn events_are_buffered_for_a_moment_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(&Disk::default(), folder.path()).unwrap();
        log.event(0, &numbered_event(0));
        assert_eq!(log.buffer.len(), 1);
        log.event(BUFFERED_MS, &numbered_event(1));
        assert_eq!(log.buffer.len(), 0);
    }

    #[test]
    fn the_start_of_a_run_is_not_buffered() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(&Disk::default(), folder.path()).unwrap();
        log.event(0, &numbered_event(0));
        let started = Event::RunStarted {
            run: "1".to_owned(),
            workflow: "w".to_owned(),
            stages: Vec::new(),
            params: Vec::new(),
            pid: 7,
        };
        log.event(0, &started);
        assert_eq!(log.buffer.len(), 0);
    }

    /// A disk that is full in the middle of the second line.
    struct FullDisk(AtomicUsize);

    impl Hook for FullDisk {
        fn before(&self, call: Syscall, _: &Path) -> FaultAction {
            match (
                call,
                self.0
                    .fetch_add(usize::from(call == Syscall::Write), Ordering::SeqCst),
            ) {
                (Syscall::Write, 1) => FaultAction::ShortWrite,
                (Syscall::Write, 2) => FaultAction::Fail(io::ErrorKind::StorageFull.into()),
                _ => FaultAction::Proceed,
            }
        }

        fn after(&self, _: Syscall, _: &Path) {}
    }

    #[test]
    fn a_truncated_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::with_hook(Arc::new(FullDisk(AtomicUsize::new(0))));
        let mut log = LogWriter::create(&disk, folder.path()).unwrap();
        for number in 0..4 {
            log.event(0, &numbered_event(number));
            log.idle();
        }
        drop(log);
        assert_eq!(numbers(folder.path()), [0, 2, 3]);
    }
}
