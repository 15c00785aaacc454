//! The child's side: runs the stage of a task file and reports to its parent.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{self, Sender};
use rustix::process::{self, Signal};

use super::Line;
use super::task::{ChildTask, WireError};
use crate::cache::disk::Disk;
use crate::cache::index::IndexKind;
use crate::cache::{Access, Cache};
use crate::ctx::StopSignal;
use crate::event::Event;
use crate::op::{OpError, OpSet};
use crate::run::worker::{Execution, run_stage};

/// Runs the stage of a task file: the whole life of a child. Returns the exit code.
pub fn run_child(ops: &OpSet, task_file: &Path) -> u8 {
    let stop = StopSignal::default();
    let is_done = Arc::new(AtomicBool::new(false));
    listen_to_parent(stop.clone(), Arc::clone(&is_done));
    let (events_in, events_out) = channel::bounded::<Event>(256);
    let printer = std::thread::spawn(move || {
        for event in events_out {
            write_line(&Line::Event(event));
        }
    });
    let execution = run_task_file(ops, task_file, stop, events_in);
    // The sender is gone with the stage, so the printer ends when it has written all events: they
    // come before the last line.
    let _ = printer.join();
    is_done.store(true, Ordering::SeqCst);
    write_line(&Line::Done(Box::new(execution)));
    0
}

fn run_task_file(
    ops: &OpSet,
    task_file: &Path,
    stop: StopSignal,
    events: Sender<Event>,
) -> Execution<WireError> {
    let task = match ChildTask::read(task_file, ops) {
        Ok(task) => task,
        Err(what) => {
            let help = "this is a bug in the program that started this process: please report it";
            let help = help.to_owned();
            return Execution::failed(WireError::Failed { what, help });
        }
    };
    let folder = task.cache_folder();
    let opened = Cache::open(
        folder,
        // The parent has the index open, and sled is for one process.
        IndexKind::Memory,
        Disk::default(),
        Access::Run,
        |_| true,
    );
    let cache = match opened {
        Ok(opened) => Arc::new(opened.cache),
        Err(error) => {
            let (what, help) = (error.to_string(), error.help());
            return Execution::failed(WireError::Failed { what, help });
        }
    };
    let mut execution = run_stage(task.into_run_task(Arc::clone(&cache), stop, events));
    // The parent commits a record only of objects that are on disk, and knows nothing of those that
    // are in this process's memory.
    let flushed = cache.objects.flush().map_err(OpError::Disk);
    execution.result = execution.result.and_then(|record| flushed.map(|()| record));
    execution.map_err(WireError::from)
}

/// Reads the parent's requests. A parent that is gone wants nothing more.
fn listen_to_parent(stop: StopSignal, is_done: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if line == "stop" {
                stop.request();
            }
        }
        if !is_done.load(Ordering::SeqCst) {
            // Not the ordinary exit, which runs destructors under threads that still compute; no
            // one is left to read how that went.
            let _ = process::kill_process(process::getpid(), Signal::KILL);
            std::process::abort();
        }
    });
}

fn write_line(line: &Line) {
    let mut text = serde_json::to_vec(line).expect("events and records are plain data");
    // Begins with a line break too: a library may have written half a line.
    text.insert(0, b'\n');
    text.push(b'\n');
    let mut out = io::stdout().lock();
    // If the parent is gone, `listen_to_parent` ends this process.
    let _ = out.write_all(&text).and_then(|()| out.flush());
}
