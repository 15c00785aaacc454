//! The process that the tests start: one run, one verification, or a cache held alone.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use blip_engine::cache::disk::Disk;
use blip_engine::cache::{Access, Cache};
use blip_engine::{
    Config, Engine, Event, IndexKind, Level, Listener, NumericEnv, Outcome, Resources, RunOptions, Workflow,
};
use blip_grammar::Source;

use crate::toy;
use crate::world::Calls;

/// A folder with a cache and files, on which processes are started.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) text: String,
    pub(crate) index: &'static str,
}

/// A process, killed when the test ends.
pub(crate) struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

pub(crate) fn config(folder: &Path, index: &str) -> Config {
    Config {
        cache: folder.join("cache"),
        base: folder.to_path_buf(),
        index: if index == "sled" { IndexKind::Sled } else { IndexKind::Memory },
        resources: Resources { cpu: 2, gpu: 0, memory: 1 << 30 },
        env: NumericEnv { fields: Vec::new() },
    }
}

pub(crate) fn workflow(text: &str) -> Workflow {
    let source = Source::new("toy.blip", text).unwrap();
    Workflow::parse(&source, &toy::ops(&Calls), &[]).unwrap_or_else(|found| panic!("{found:#?}"))
}

impl Place {
    pub(crate) fn new(text: &str, index: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
        std::fs::write(folder.path().join("lines.txt"), lines.join("\n")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "some notes").unwrap();
        Self { folder, text: text.to_owned(), index }
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(config(self.folder.path(), self.index))
    }

    /// Starts a process.
    pub(crate) fn start(&self, what: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env("BLIP_CHILD", what)
            .env("BLIP_FOLDER", self.folder.path())
            .env("BLIP_TEXT", &self.text)
            .env("BLIP_INDEX", self.index)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Process { child, lines }
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that begins with this word; nothing when the process ends without one.
    pub(crate) fn line(&mut self, word: &str) -> Option<String> {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.split_whitespace().next() == Some(word) {
                return Some(line.trim().to_owned());
            }
            line.clear();
        }
        None
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; gives its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Says what happens, a line each: the test reads it.
struct Speaker;

impl Listener for Speaker {
    fn event(&mut self, _: u64, event: &Event) {
        let line = match event {
            Event::Waiting { stage, pid, host, .. } => {
                format!("waiting {} {pid} {host}", stage.as_deref().unwrap_or("-"))
            }
            Event::StageStarted { stage, .. } => format!("started {stage}"),
            Event::StageFinished(end) => {
                let what = end.error.as_ref().map_or("", |error| error.what.as_str());
                format!("finished {} {:?} {what}", end.stage, end.status)
            }
            Event::Warning { text, .. } => format!("warning {text}"),
            _ => return,
        };
        say(&line);
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What a child does, and its exit code.
pub(crate) fn main(what: &str) -> i32 {
    let variable = |name| std::env::var(name).unwrap();
    let folder = PathBuf::from(variable("BLIP_FOLDER"));
    let config = config(&folder, &variable("BLIP_INDEX"));
    if what == "hold" {
        let held = Cache::open(&config.cache, IndexKind::Memory, Disk::default(), Access::Alone, |_| true).unwrap();
        say("held");
        std::thread::sleep(Duration::from_secs(60));
        drop(held);
        return 0;
    }
    let engine = Engine::new(config);
    if what == "verify" {
        say("begins");
        return i32::from(!engine.verify(Level::Full, &RunOptions::default()).unwrap().damage.is_empty());
    }
    let options = RunOptions { no_wait: what == "impatient", keep_going: true, ..RunOptions::default() };
    match engine.run(&workflow(&variable("BLIP_TEXT")), &options, &mut [&mut Speaker]) {
        Ok(summary) if summary.outcome == Outcome::Done => 0,
        Ok(_) => 1,
        Err(error) => {
            say(&format!("error {error}"));
            2
        }
    }
}
