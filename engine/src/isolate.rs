//! `@isolate`: a stage in a process of its own, which may abort, run out of memory or hang without
//! taking the run with it.
//!
//! A program that wants this says with [`Engine::with_isolation`](crate::Engine::with_isolation)
//! how it is started as a child, and calls [`run_child`] when it is. The child gets a task file,
//! opens the same cache, and runs the one stage. It writes events as lines of JSON to its standard
//! output, the end of the execution last; the record is committed by the parent. A line `stop` on
//! its standard input asks it to stop; when the input ends, its parent is gone, and it ends as
//! well. The parent polls how much memory the child uses, and kills one that uses more than its
//! `@memory`.

mod child;
mod memory;
mod task;
mod value;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use serde::{Deserialize, Serialize};

pub use self::child::run_child;
use self::memory::{memory_error, private_bytes};
use self::task::{TASK_FILE_NAME, WireError, encode_task};
use crate::ctx::StopSignal;
use crate::event::Event;
use crate::op::OpError;
use crate::run::worker::{Execution, RunTask, elapsed_ms};

/// The longest that the parent waits for a line before it checks the time, the memory and requests
/// to stop.
const TICK: Duration = Duration::from_millis(50);
/// How long a child that was asked to stop has to save its state before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How a program is started as the child that runs one stage: `program args... TASKFILE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isolation {
    /// Most likely the running program itself.
    pub program: PathBuf,
    /// What makes it call [`run_child`].
    pub args: Vec<OsString>,
}

/// A line that the child writes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Event(Event),
    Done(Box<Execution<WireError>>),
}

/// Runs a stage in a child, in the parent.
pub(crate) fn run_in_child(task: RunTask, isolation: &Isolation) -> Execution {
    let started = Instant::now();
    let execution = match start_child(&task, isolation) {
        Ok((child, input, lines)) => {
            let parent = Parent {
                input,
                stop: task.parts.stop.clone(),
                started,
                timeout: task.node.attributes.timeout_ms.map(Duration::from_millis),
                asked_to_stop: None,
                timed_out: false,
            };
            parent.watch(&task, child, &lines)
        }
        Err(error) => Execution::failed(error),
    };
    Execution {
        // With what it takes to start a process, as the user sees it.
        took_ms: elapsed_ms(started),
        ..execution
    }
}

/// What the parent of a child keeps.
struct Parent {
    input: Option<ChildStdin>,
    stop: StopSignal,
    started: Instant,
    timeout: Option<Duration>,
    asked_to_stop: Option<Instant>,
    timed_out: bool,
}

impl Parent {
    /// Passes on what the child reports until it ends.
    fn watch(mut self, task: &RunTask, mut child: Child, lines: &Receiver<Line>) -> Execution {
        let mut done = None;
        let mut too_much_memory = None;
        loop {
            match lines.recv_timeout(TICK) {
                Ok(Line::Event(event)) => drop(task.parts.events.send(event)),
                Ok(Line::Done(execution)) => done = Some(*execution),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // A child that is done is only waited for, so that it ends by itself.
            if done.is_some() {
                continue;
            }
            if too_much_memory.is_none() {
                too_much_memory = check_memory(task, &child);
            }
            if too_much_memory.is_some() || self.is_to_be_killed() {
                let _ = child.kill();
            }
        }
        let status = child.wait();
        if let Some(execution) = done {
            return execution.map_err(OpError::from);
        }
        if let Some(error) = too_much_memory {
            return Execution::failed(error);
        }
        if self.asked_to_stop.is_some() {
            return Execution {
                timed_out: self.timed_out,
                ..Execution::failed(OpError::Interrupted)
            };
        }
        Execution::failed(crash_error(&task.node.name, status))
    }

    /// Asks the child to stop once its time is over or the user wants it, and says whether it has
    /// had its time to do so.
    fn is_to_be_killed(&mut self) -> bool {
        let is_late = self
            .timeout
            .is_some_and(|timeout| self.started.elapsed() >= timeout);
        if !is_late && !self.stop.is_requested() {
            return false;
        }
        self.timed_out |= is_late;
        let asked = *self.asked_to_stop.get_or_insert_with(|| {
            if let Some(input) = &mut self.input {
                // A child that has closed its input is killed when the time is over.
                let _ = input.write_all(b"stop\n").and_then(|()| input.flush());
            }
            Instant::now()
        });
        asked.elapsed() >= GRACE || self.stop.is_immediate()
    }
}

fn check_memory(task: &RunTask, child: &Child) -> Option<OpError> {
    let limit = task.node.attributes.memory?;
    memory_error(private_bytes(child.id())?, limit)
}

/// Starts the child of a stage; the lines that it writes come through the channel, which is closed
/// when the child's output ends.
fn start_child(
    task: &RunTask,
    isolation: &Isolation,
) -> Result<(Child, Option<ChildStdin>, Receiver<Line>), OpError> {
    // The child cannot read objects that are in this process's memory only.
    task.parts.cache.objects.flush()?;
    let path = task.parts.scratch.path().join(TASK_FILE_NAME);
    std::fs::write(&path, encode_task(task))
        .map_err(|error| start_error("write the task of a process", &error))?;
    let mut command = Command::new(&isolation.program);
    command
        .args(&isolation.args)
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    // Ctrl-C in a terminal goes to the whole group: in a group of its own the child is not hit, and
    // the parent asks it to stop.
    command.process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| start_error("start a process for the stage", &error))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (sender, lines) = channel::bounded(256);
    if let Some(output) = output {
        let started = Builder::new().spawn(move || read_lines(output, &sender));
        if let Err(error) = started {
            // It waits for a parent that cannot listen to it.
            let _ = child.kill().and_then(|()| child.wait());
            return Err(start_error(
                "start a thread for the process of a stage",
                &error,
            ));
        }
    }
    Ok((child, input, lines))
}

fn start_error(action: &str, error: &io::Error) -> OpError {
    OpError::failed(
        format!("could not {action}: {error}"),
        "check the machine's limits, or remove @isolate",
    )
}

fn read_lines(output: ChildStdout, sender: &Sender<Line>) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        // Libraries print to the same output: what is no line of ours is skipped.
        let Ok(line) = serde_json::from_slice::<Line>(&line) else {
            continue;
        };
        if sender.send(line).is_err() {
            return;
        }
    }
}

/// The error of a child that ended without a result.
fn crash_error(stage: &str, status: io::Result<ExitStatus>) -> OpError {
    let status = status.ok().map(|status| (status.signal(), status.code()));
    let how = match status {
        Some((Some(6), _)) => "aborted".to_owned(),
        Some((Some(9), _)) => {
            "was killed by the system, most likely because memory ran out".to_owned()
        }
        Some((Some(11), _)) => "crashed with a segmentation fault".to_owned(),
        Some((Some(signal), _)) => format!("was killed by signal {signal}"),
        Some((None, Some(code))) => format!("exited with code {code} before it had a result"),
        _ => "is gone".to_owned(),
    };
    OpError::failed(
        format!("the process of `{stage}` {how}"),
        "look at what it wrote to the terminal; if memory ran out, give it less work at a time",
    )
}
