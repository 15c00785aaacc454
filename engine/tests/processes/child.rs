//! The process that the tests start: one run, one verification, or a cache held exclusively.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use blip_engine::cache::disk::Disk;
use blip_engine::cache::{Access, Cache};
use blip_engine::space::GcOptions;
use blip_engine::{
    Config, Engine, Event, IndexKind, Isolation, Listener, NumericEnv, Outcome, PlannedAction,
    Resources, RunOptions, VerifyLevel, Workflow,
};
use blip_grammar::Source;

use crate::toy;
use crate::world::Calls;

/// A folder with a cache and files, in which processes are started.
pub(crate) struct TestFolder {
    folder: tempfile::TempDir,
    /// The workflow.
    text: String,
    index: &'static str,
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
        index: if index == "sled" {
            IndexKind::Sled
        } else {
            IndexKind::Memory
        },
        resources: Resources {
            cpu: 2,
            gpu: 0,
            memory: 1 << 30,
        },
        env: NumericEnv { fields: Vec::new() },
    }
}

pub(crate) fn workflow(text: &str) -> Workflow {
    let source = Source::new("toy.blip", text).unwrap();
    Workflow::parse(&source, &toy::ops(&Calls), &[]).unwrap_or_else(|found| panic!("{found:#?}"))
}

impl TestFolder {
    pub(crate) fn new(text: &str, index: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
        std::fs::write(folder.path().join("lines.txt"), lines.join("\n")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "some notes").unwrap();
        Self {
            folder,
            text: text.to_owned(),
            index,
        }
    }

    /// The same folder with another workflow.
    pub(crate) fn with_text(self, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..self
        }
    }

    pub(crate) fn workflow(&self) -> Workflow {
        workflow(&self.text)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(config(self.path(), self.index))
    }

    /// Starts a process that does `what`, see [`main`].
    pub(crate) fn start(&self, what: &str) -> Process {
        let command = Command::new(std::env::current_exe().unwrap());
        self.spawn(what, &self.text, command)
    }

    /// Starts a process in a mount namespace of its own, after `mounts`: a line of shell in which
    /// `$BLIP_FOLDER` is the folder. Only where [`mounts_are_allowed`].
    pub(crate) fn start_mounted(&self, what: &str, mounts: &str) -> Process {
        self.start_text_mounted(what, &self.text, mounts)
    }

    /// The same with another workflow.
    pub(crate) fn start_text_mounted(&self, what: &str, text: &str, mounts: &str) -> Process {
        let mut command = Command::new("unshare");
        command
            .args(["-rm", "sh", "-c"])
            .arg(format!("{mounts} && exec \"$0\""))
            .arg(std::env::current_exe().unwrap());
        self.spawn(what, text, command)
    }

    fn spawn(&self, what: &str, text: &str, mut command: Command) -> Process {
        let mut child = command
            .env("BLIP_CHILD", what)
            .env("BLIP_FOLDER", self.folder.path())
            .env("BLIP_TEXT", text)
            .env("BLIP_INDEX", self.index)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Process { child, lines }
    }
}

/// Whether a process may have a mount namespace of its own: containers often forbid it.
pub(crate) fn mounts_are_allowed() -> bool {
    let output = Command::new("unshare").args(["-rm", "true"]).output();
    output.is_ok_and(|output| output.status.success())
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that begins with this word; nothing when the process ends before.
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

    pub(crate) fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it exits; returns its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes a line for every event that a test waits for.
struct LinePrinter;

impl Listener for LinePrinter {
    fn event(&mut self, _: u64, event: &Event) {
        let line = match event {
            Event::Waiting {
                stage, pid, host, ..
            } => {
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
        write_line(&line);
    }
}

fn write_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Does `what` in the folder that the environment names; returns the exit code.
pub(crate) fn main(what: &str) -> i32 {
    let variable = |name| std::env::var(name).unwrap();
    let folder = PathBuf::from(variable("BLIP_FOLDER"));
    let config = config(&folder, &variable("BLIP_INDEX"));
    if what == "hold" {
        return hold(&config.cache);
    }
    let workflow = workflow(&variable("BLIP_TEXT"));
    let isolation = Isolation {
        program: std::env::current_exe().unwrap(),
        args: Vec::new(),
    };
    let engine = Engine::new(config).with_isolation(isolation);
    match what {
        "verify" => return verify(&engine),
        "collect" => return collect(&engine),
        "repair" => return repair(&engine, &workflow),
        "read" => return read(&engine, &workflow),
        "fill" => return run_on_full_disk(&engine, &workflow),
        "weigh" => return measure_memory(&engine, &workflow),
        _ => {}
    }
    let options = RunOptions {
        no_wait: what == "impatient",
        keep_going: true,
        ..RunOptions::default()
    };
    match engine.run(&workflow, &options, &mut [&mut LinePrinter]) {
        Ok(summary) if summary.outcome == Outcome::Done => 0,
        Ok(summary) if summary.is_busy => 75,
        Ok(_) => 1,
        Err(error) => {
            write_line(&format!("error {error}"));
            2
        }
    }
}

/// Holds the cache exclusively until it is killed.
fn hold(cache: &Path) -> i32 {
    let disk = Disk::default();
    let held = Cache::open(cache, IndexKind::Memory, disk, Access::Exclusive, |_| true).unwrap();
    write_line("held");
    std::thread::sleep(Duration::from_secs(60));
    drop(held);
    0
}

fn verify(engine: &Engine) -> i32 {
    write_line("begins");
    let report = engine
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap();
    i32::from(!report.corruptions.is_empty())
}

/// Removes everything that the last run does not use.
fn collect(engine: &Engine) -> i32 {
    write_line("begins");
    let options = GcOptions {
        keep_runs: 1,
        min_age: None,
        max_bytes: None,
        dry_run: false,
    };
    engine.collect(&options, false).map_or(2, |_| 0)
}

fn repair(engine: &Engine, workflow: &Workflow) -> i32 {
    write_line("begins");
    let report = engine
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap();
    let repaired = engine
        .repair(&report, workflow, &RunOptions::default(), &mut [])
        .unwrap();
    i32::from(!repaired.failed.is_empty())
}

/// Everything that only reads the cache, and then a run.
fn read(engine: &Engine, workflow: &Workflow) -> i32 {
    let plan = engine.plan(workflow, &[]).unwrap();
    let reused = plan
        .iter()
        .filter(|planned| planned.action == PlannedAction::Reuse)
        .count();
    write_line(&format!("plan {reused} of {}", plan.len()));
    let reader = engine.reader();
    let run = reader.runs().unwrap().pop().unwrap();
    write_line(&format!("log {}", reader.log(&run).unwrap().ends().len()));
    let has_files = engine.disk_usage().unwrap().total().files > 0;
    write_line(&format!("use {has_files}"));
    let report = engine
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap();
    let aside = report
        .corruptions
        .iter()
        .filter(|damage| damage.moved_to.is_some())
        .count();
    write_line(&format!(
        "verify {} {} {aside}",
        report.records,
        report.corruptions.len()
    ));
    match engine.run(workflow, &RunOptions::default(), &mut []) {
        Ok(summary) => {
            let count = summary.results.len();
            write_line(&format!("ran {:?} {count}", summary.outcome));
        }
        Err(error) => {
            write_line(&format!("error {error}"));
            write_line(&format!("help {}", error.help()));
        }
    }
    0
}

/// A run, and its peak memory in MB.
fn measure_memory(engine: &Engine, workflow: &Workflow) -> i32 {
    let summary = engine
        .run(workflow, &RunOptions::default(), &mut [])
        .unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    write_line(&format!("peak {}", kb / 1024));
    i32::from(summary.outcome != Outcome::Done)
}

/// A run on a disk that something else has filled, and another one when that is gone.
fn run_on_full_disk(engine: &Engine, workflow: &Workflow) -> i32 {
    // Alone and first: beside the stage that fills the disk it would now and then find no space.
    let only_a = RunOptions {
        targets: vec!["a".to_owned()],
        ..RunOptions::default()
    };
    engine
        .run(workflow, &only_a, &mut [&mut LinePrinter])
        .unwrap();
    let ballast = engine.cache_folder().join("ballast");
    std::fs::write(&ballast, vec![7; 4 << 20]).unwrap();
    for _ in 0..2 {
        let options = RunOptions {
            keep_going: true,
            ..RunOptions::default()
        };
        let summary = engine
            .run(workflow, &options, &mut [&mut LinePrinter])
            .unwrap();
        if let Some(error) = summary.stages.iter().find_map(|end| end.error.as_ref()) {
            write_line(&format!("help {}", error.help));
        }
        let damage = engine
            .verify(VerifyLevel::Full, &RunOptions::default())
            .unwrap()
            .corruptions;
        write_line(&format!("verify {}", damage.len()));
        let _ = std::fs::remove_file(&ballast);
    }
    0
}
