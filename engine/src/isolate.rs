//! `@isolate`: a stage in a process of its own, which may abort, run out of memory or hang without
//! taking the run with it.
//!
//! A program that wants this says with [`Engine::with_isolation`](crate::Engine::with_isolation)
//! how it is started as a child, and hands over to [`child`] when it is. The child gets a job file,
//! opens the same cache, and runs the one stage. It writes what happens as lines of JSON to its
//! standard output, the result last; the record is committed by the parent. A line `stop` on its
//! standard input asks it to stop; when the input ends, its parent is gone, and it ends as well.
//! The parent watches what memory the child takes, and ends one that takes more than its `@memory`.

mod job;
mod memory;
mod value;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError};
use rustix::process::{self, Signal};
use serde::{Deserialize, Serialize};

use self::job::{Answered, StageJob};
use self::memory::{own_bytes, takes_too_much};
use crate::cache::index::IndexKind;
use crate::cache::{Access, Cache};
use crate::ctx::StopSignal;
use crate::event::Event;
use crate::op::{OpError, OpSet};
use crate::run::worker::{self, Ran, RunJob};

/// How often the parent looks at the clock and at a request to stop.
const TICK: Duration = Duration::from_millis(50);
/// A child that was asked to stop, or whose time is over, has so long to save its state.
const GRACE: Duration = Duration::from_secs(2);

/// How a program is started as the child that runs one stage: `program args... JOBFILE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isolation {
    /// The program: most likely itself.
    pub program: PathBuf,
    /// What makes it call [`child`].
    pub args: Vec<OsString>,
}

/// A line that the child writes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// Something happened.
    Event(Event),
    /// The stage is at its end.
    Done(Box<Answered>),
}

/// Runs the stage of a job file: the whole life of a child. Gives the exit code.
pub fn child(ops: &OpSet, job: &Path) -> u8 {
    let stop = StopSignal::default();
    let over = Arc::new(AtomicBool::new(false));
    listen(stop.clone(), Arc::clone(&over));
    let (events, heard) = channel::bounded::<Event>(256);
    let printer =
        std::thread::spawn(move || heard.iter().for_each(|event| say(&Line::Event(event))));
    let answered = match StageJob::read(job, ops) {
        Ok((job, folder)) => {
            match Cache::open(&folder, IndexKind::Memory, job.disk(), Access::Run, |_| {
                true
            }) {
                Ok(opened) => {
                    let cache = Arc::new(opened.cache);
                    let ran = worker::run(job.into_run(Arc::clone(&cache), stop, events));
                    let flushed = cache.objects.flush().map_err(OpError::Disk);
                    Answered::of(Ran {
                        result: ran.result.and_then(|record| flushed.map(|()| record)),
                        ..ran
                    })
                }
                Err(error) => Answered::failed(&error.to_string(), &error.help()),
            }
        }
        Err(what) => Answered::failed(
            &what,
            "this is a bug in the program that started this process: please report it",
        ),
    };
    // The sender is gone with the stage: the printer has said everything before the last line.
    let _ = printer.join();
    over.store(true, Ordering::SeqCst);
    say(&Line::Done(Box::new(answered)));
    0
}

/// Hears the parent. One that is gone wants nothing more.
fn listen(stop: StopSignal, over: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if line == "stop" {
                stop.request();
            }
        }
        if !over.load(Ordering::SeqCst) {
            // Not the ordinary exit: it would meet threads that compute, and nobody is left to hear
            // how that went.
            let _ = process::kill_process(process::getpid(), Signal::KILL);
            std::process::abort();
        }
    });
}

fn say(line: &Line) {
    let mut text = serde_json::to_vec(line).expect("events and records are plain data");
    // A line of its own, whatever libraries have written before.
    text.insert(0, b'\n');
    text.push(b'\n');
    let mut out = io::stdout().lock();
    // A parent that is gone is heard of on the other side.
    let _ = out.write_all(&text).and_then(|()| out.flush());
}

/// Runs a stage in a child.
pub(crate) fn run(job: RunJob, isolation: &Isolation) -> Ran {
    let started = Instant::now();
    let timeout = job.node.attributes.timeout_ms.map(Duration::from_millis);
    let done = |result, timed_out| Ran {
        result,
        units: None,
        grows: None,
        timed_out,
        took_ms: worker::elapsed_ms(started),
    };
    let (mut child, input, lines) = match begin(&job, isolation) {
        Ok(begun) => begun,
        Err(error) => return done(Err(error), false),
    };
    let mut parent = Parent {
        input,
        stop: job.parts.stop.clone(),
        asked: None,
        timed_out: false,
    };
    let mut answered = None;
    let mut too_much = None;
    loop {
        match lines.recv_timeout(TICK) {
            Ok(Line::Event(event)) => drop(job.parts.events.send(event)),
            Ok(Line::Done(last)) => answered = Some(*last),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let late = timeout.is_some_and(|limit| started.elapsed() >= limit);
        let limit = job.node.attributes.memory.filter(|_| answered.is_none());
        too_much = too_much.or_else(|| takes_too_much(own_bytes(child.id())?, limit?));
        if answered.is_none() && (too_much.is_some() || parent.wants_to_kill(late)) {
            let _ = child.kill();
        }
    }
    let status = child.wait();
    match (answered, too_much) {
        (Some(answered), _) => answered.into_ran(worker::elapsed_ms(started)),
        (None, Some(error)) => done(Err(error), false),
        (None, None) if parent.asked.is_some() => done(Err(OpError::Interrupted), parent.timed_out),
        (None, None) => done(Err(crashed(&job.node.name, status)), false),
    }
}

/// What the parent of a child knows.
struct Parent {
    input: Option<ChildStdin>,
    stop: StopSignal,
    asked: Option<Instant>,
    timed_out: bool,
}

impl Parent {
    /// Asks the child to stop when that is due; whether it has had its time and is to be killed.
    fn wants_to_kill(&mut self, late: bool) -> bool {
        if !late && !self.stop.is_requested() {
            return false;
        }
        self.timed_out |= late;
        let asked = *self.asked.get_or_insert_with(|| {
            if let Some(input) = &mut self.input {
                // A child that does not listen any more is waited for all the same.
                let _ = input.write_all(b"stop\n").and_then(|()| input.flush());
            }
            Instant::now()
        });
        asked.elapsed() >= GRACE || self.stop.is_immediate()
    }
}

fn begin(
    job: &RunJob,
    isolation: &Isolation,
) -> Result<(Child, Option<ChildStdin>, Receiver<Line>), OpError> {
    // What is in this process's memory only, the child cannot read.
    job.parts.cache.objects.flush()?;
    let path = job.parts.scratch.path().join("job.json");
    let failed = |doing: &str, error: &io::Error| {
        OpError::failed(
            format!("could not {doing}: {error}"),
            "check the machine's limits, or remove @isolate",
        )
    };
    std::fs::write(&path, StageJob::bytes(job))
        .map_err(|error| failed("write the job of a process", &error))?;
    let mut command = Command::new(&isolation.program);
    command
        .args(&isolation.args)
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    // Ctrl-C in a terminal goes to the whole group: the parent hears it and asks the child, which
    // then has its time.
    command.process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| failed("start a process for the stage", &error))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let (sender, lines) = channel::bounded(256);
    if let Some(output) = output {
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                // What libraries print is none of ours.
                let Ok(line) = serde_json::from_slice::<Line>(&line) else {
                    continue;
                };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    Ok((child, input, lines))
}

/// A child that ended without a word.
fn crashed(stage: &str, status: io::Result<ExitStatus>) -> OpError {
    let how = match status
        .as_ref()
        .ok()
        .map(|status| (status.signal(), status.code()))
    {
        Some((Some(6), _)) => "aborted".to_owned(),
        Some((Some(9), _)) => {
            "was killed by the system, as it does when memory runs out".to_owned()
        }
        Some((Some(11), _)) => "crashed with a segmentation fault".to_owned(),
        Some((Some(signal), _)) => format!("was killed by signal {signal}"),
        Some((None, Some(code))) => format!("ended with code {code} before it had a result"),
        _ => "is gone".to_owned(),
    };
    OpError::failed(
        format!("the process of `{stage}` {how}"),
        "look at what it wrote to the terminal; where memory ran out, give it less work at a time",
    )
}
