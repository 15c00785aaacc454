//! Processes that share a cache: no stage runs twice, no process waits for a dead one, and readers
//! never wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use blip_engine::cache::disk::Disk;
use blip_engine::cache::{Access, Cache, CacheError};
use blip_engine::event::LogEntry;
use blip_engine::{Event, IndexKind, RunOptions, Status, VerifyLevel};

use crate::child::{Process, TestFolder};

const GRAPH: &str = "\
a = slow(text(\"a\"), ms = 60)
b = slow(text(\"b\"), ms = 60)
c = slow(join(a, b), ms = 60)
d = slow(join(a, c), ms = 60)
l = lines(\"lines.txt\")
s = shout(l, copies = 3)
e = slow(show(s), ms = 60)
f = join(d, e)
export f as txt \"out/f.txt\"
";

/// How often each stage ran, by the event logs of all processes.
fn count_runs(folder: &TestFolder) -> BTreeMap<String, u32> {
    let reader = folder.engine().reader();
    let mut counts = BTreeMap::new();
    for run in reader.runs().unwrap() {
        for (stage, end) in reader.log(&run).unwrap().ends() {
            let count: &mut u32 = counts.entry(stage.to_owned()).or_default();
            *count += u32::from(end.status == Status::Ran);
        }
    }
    counts
}

fn count_entries(folder: &TestFolder, name: &str) -> usize {
    std::fs::read_dir(folder.cache().join(name))
        .unwrap()
        .count()
}

fn start_and_wait_for_stage(folder: &TestFolder, stage: &str) -> Process {
    let mut process = folder.start("run");
    let line = format!("started {stage}");
    while process.line("started").unwrap() != line {}
    process
}

pub(crate) fn eight_processes_run_every_stage_once() {
    for index in ["sled", "none"] {
        let folder = TestFolder::new(GRAPH, index);
        let mut processes: Vec<_> = (0..8).map(|_| folder.start("run")).collect();
        for process in &mut processes {
            assert_eq!(process.exit_code(), Some(0), "{index}");
        }
        let counts = count_runs(&folder);
        assert!(
            counts.len() >= 8 && counts.values().all(|count| *count == 1),
            "{index}: {counts:?}"
        );
        let report = folder
            .engine()
            .verify(VerifyLevel::Full, &RunOptions::default())
            .unwrap();
        assert_eq!(report.corruptions, [], "{index}");
        assert_eq!(count_entries(&folder, "tmp"), 0, "{index}");
        assert_eq!(count_entries(&folder, "leases"), 0, "{index}");
        assert!(folder.path().join("out/f.txt").is_file());
    }
}

pub(crate) fn when_the_holder_is_killed_another_takes_over() {
    let folder = TestFolder::new("a = waiting()\n", "none");
    let mut holder = start_and_wait_for_stage(&folder, "a");
    let mut second = folder.start("run");
    let waiting = second.line("waiting").unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(
        waiting,
        format!("waiting a {} {}", holder.id(), host.trim())
    );
    holder.kill();
    assert_eq!(second.line("started").unwrap(), "started a");
}

pub(crate) fn other_stages_run_while_one_waits_for_a_lease() {
    let folder = TestFolder::new("a = waiting()\n", "none");
    let _holder = start_and_wait_for_stage(&folder, "a");
    let folder = folder.with_text("a = waiting()\nb = upper(text(\"b\"))\nc = upper(a)\n");
    let mut second = folder.start("run");
    let mut lines = Vec::new();
    while lines
        .last()
        .is_none_or(|line: &String| !line.starts_with("finished b Ran"))
    {
        lines.push(second.line("finished").unwrap());
    }
    assert!(
        lines.iter().all(|line| !line.starts_with("finished a")),
        "{lines:?}"
    );
}

pub(crate) fn a_run_that_does_not_wait_names_the_holder() {
    let folder = TestFolder::new("a = waiting()\n", "none");
    let holder = start_and_wait_for_stage(&folder, "a");
    let mut second = folder.start("impatient");
    let mut line = second.line("finished").unwrap();
    while !line.starts_with("finished a") {
        line = second.line("finished").unwrap();
    }
    let start = format!(
        "finished a Failed its result is being computed by process {} on ",
        holder.id()
    );
    assert!(
        line.starts_with(&start) && line.contains(", for "),
        "{line}"
    );
    assert_eq!(second.exit_code(), Some(75));
}

pub(crate) fn exclusive_access_names_the_run_that_holds_the_cache() {
    let folder = TestFolder::new("a = waiting()\n", "none");
    let mut run = start_and_wait_for_stage(&folder, "a");
    let open = || {
        Cache::open(
            &folder.cache(),
            IndexKind::Memory,
            Disk::default(),
            Access::Exclusive,
            |_| false,
        )
    };
    let Err(CacheError::Busy { holder, .. }) = open() else {
        panic!("the cache is in use")
    };
    assert_eq!(holder.pid, run.id());
    run.kill();
    assert!(open().is_ok());
}

pub(crate) fn a_run_waits_for_exclusive_access_to_end() {
    let folder = TestFolder::new("a = text(\"a\")\n", "none");
    let mut holder = folder.start("hold");
    assert!(holder.line("held").is_some());
    let mut impatient = folder.start("impatient");
    let error = impatient.line("error").unwrap();
    let start = format!(
        "error the cache {} is in use by process {} on ",
        folder.cache().display(),
        holder.id()
    );
    assert!(error.starts_with(&start), "{error}");
    let mut patient = folder.start("run");
    assert!(
        patient
            .line("waiting")
            .unwrap()
            .starts_with(&format!("waiting - {} ", holder.id()))
    );
    holder.kill();
    assert_eq!(patient.exit_code(), Some(0));
}

/// sled would take kilobytes for each unit if they were inserted in the wrong order: it is compared
/// with an index in memory.
pub(crate) fn a_hundred_thousand_units_take_little_memory() {
    let (sled, memory) = (measure_peak_mb("sled"), measure_peak_mb("none"));
    assert!(
        sled < memory + 60,
        "{sled} MB with sled, {memory} MB without"
    );
}

fn measure_peak_mb(index: &'static str) -> u64 {
    let text = "l = lines(\"many.txt\")\ns = shout(l, copies = 100)\n";
    let folder = TestFolder::new(text, index);
    let lines: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
    std::fs::write(folder.path().join("many.txt"), lines.join("\n")).unwrap();
    let mut run = folder.start("weigh");
    let line = run.line("peak").unwrap();
    assert_eq!(run.exit_code(), Some(0));
    line.trim_start_matches("peak ").parse().unwrap()
}

pub(crate) fn readers_work_during_a_run() {
    let folder = TestFolder::new("a = upper(text(\"a\"))\nb = slow(a, ms = 600000)\n", "sled");
    let mut run = start_and_wait_for_stage(&folder, "b");
    let engine = folder.engine();
    let plan = engine.plan(&folder.workflow(), &[]).unwrap();
    assert_eq!(plan.len(), 3);
    let reader = engine.reader();
    let [id] = reader.runs().unwrap().try_into().unwrap();
    let is_started = |entry: &LogEntry| matches!(entry.event, Event::RunStarted { .. });
    let deadline = Instant::now() + Duration::from_secs(20);
    // Events are on the terminal before they are in the log, which is written in the background.
    while !reader.log(&id).unwrap().events.iter().any(is_started) {
        assert!(Instant::now() < deadline, "the log has no start of the run");
        std::thread::sleep(Duration::from_millis(10));
    }
    let report = engine
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap();
    assert_eq!(report.corruptions, []);
    assert!(!run.has_exited());
}
