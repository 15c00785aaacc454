//! Processes that work together: no stage runs twice, nobody waits for a dead one, and readers wait
//! for nobody.

use std::collections::BTreeMap;

use blip_engine::cache::disk::Disk;
use blip_engine::cache::{Access, Cache, CacheError};
use blip_engine::{Event, IndexKind, Level, RunOptions, Status};

use crate::child::{Place, workflow};

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
fn ran(place: &Place) -> BTreeMap<String, u32> {
    let reader = place.engine().reader();
    let mut ran = BTreeMap::new();
    for run in reader.runs().unwrap() {
        for (stage, end) in reader.log(&run).unwrap().ends() {
            *ran.entry(stage.to_owned()).or_default() += u32::from(end.status == Status::Ran);
        }
    }
    ran
}

pub(crate) fn eight_processes_run_every_stage_once() {
    for index in ["sled", "none"] {
        let place = Place::new(GRAPH, index);
        let mut processes: Vec<_> = (0..8).map(|_| place.start("run")).collect();
        for process in &mut processes {
            assert_eq!(process.end(), Some(0), "{index}");
        }
        let ran = ran(&place);
        assert!(
            ran.len() >= 8 && ran.values().all(|times| *times == 1),
            "{index}: {ran:?}"
        );
        let report = place
            .engine()
            .verify(Level::Full, &RunOptions::default())
            .unwrap();
        assert_eq!(report.damage, [], "{index}");
        assert_eq!(
            std::fs::read_dir(place.cache().join("tmp"))
                .unwrap()
                .count(),
            0,
            "{index}"
        );
        assert_eq!(
            std::fs::read_dir(place.cache().join("leases"))
                .unwrap()
                .count(),
            0,
            "{index}"
        );
        assert!(place.folder.path().join("out/f.txt").is_file());
    }
}

pub(crate) fn when_the_holder_is_killed_another_takes_over() {
    let place = Place::new("a = waiting()\n", "none");
    let mut holder = place.start("run");
    while holder.line("started").unwrap() != "started a" {}
    let mut second = place.start("run");
    let waiting = second.line("waiting").unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(
        waiting,
        format!("waiting a {} {}", holder.id(), host.trim())
    );
    holder.kill();
    assert_eq!(second.line("started").unwrap(), "started a");
}

pub(crate) fn meanwhile_other_stages_run() {
    let place = Place::new("a = waiting()\n", "none");
    let mut holder = place.start("run");
    while holder.line("started").unwrap() != "started a" {}
    let both = Place {
        text: format!("{}b = upper(text(\"b\"))\nc = upper(a)\n", place.text),
        ..place
    };
    let mut second = both.start("run");
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

pub(crate) fn who_does_not_want_to_wait_is_told_for_whom() {
    let place = Place::new("a = waiting()\n", "none");
    let mut holder = place.start("run");
    while holder.line("started").unwrap() != "started a" {}
    let mut second = place.start("impatient");
    let mut line = second.line("finished").unwrap();
    while !line.starts_with("finished a") {
        line = second.line("finished").unwrap();
    }
    let start = format!(
        "finished a Failed its result is being made by process {} on ",
        holder.id()
    );
    assert!(
        line.starts_with(&start) && line.contains(", for "),
        "{line}"
    );
    assert_eq!(second.end(), Some(1));
}

pub(crate) fn who_wants_it_alone_is_told_of_a_run() {
    let place = Place::new("a = waiting()\n", "none");
    let mut run = place.start("run");
    while run.line("started").unwrap() != "started a" {}
    let alone = || {
        Cache::open(
            &place.cache(),
            IndexKind::Memory,
            Disk::default(),
            Access::Exclusive,
            |_| false,
        )
    };
    let Err(CacheError::Busy { holder, .. }) = alone() else {
        panic!("a run is going")
    };
    assert_eq!(holder.pid, run.id());
    run.kill();
    assert!(alone().is_ok());
}

pub(crate) fn a_run_waits_for_who_has_it_alone() {
    let place = Place::new("a = text(\"a\")\n", "none");
    let mut holder = place.start("hold");
    assert!(holder.line("held").is_some());
    let mut impatient = place.start("impatient");
    let error = impatient.line("error").unwrap();
    let start = format!(
        "error the cache {} is in use by process {} on ",
        place.cache().display(),
        holder.id()
    );
    assert!(error.starts_with(&start), "{error}");
    let mut patient = place.start("run");
    assert!(
        patient
            .line("waiting")
            .unwrap()
            .starts_with(&format!("waiting - {} ", holder.id()))
    );
    holder.kill();
    assert_eq!(patient.end(), Some(0));
}

/// sled would take kilobytes for each unit if they came in the wrong way: it is measured against an
/// index in memory.
pub(crate) fn a_hundred_thousand_units_take_little_memory() {
    let peak = |index| {
        let place = Place::new(
            "l = lines(\"many.txt\")\ns = shout(l, copies = 100)\n",
            index,
        );
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
        std::fs::write(place.folder.path().join("many.txt"), lines.join("\n")).unwrap();
        let mut run = place.start("weigh");
        let peak: u64 = run
            .line("peak")
            .unwrap()
            .trim_start_matches("peak ")
            .parse()
            .unwrap();
        assert_eq!(run.end(), Some(0));
        peak
    };
    let (sled, memory) = (peak("sled"), peak("none"));
    assert!(
        sled < memory + 60,
        "{sled} MB with sled, {memory} MB without"
    );
}

pub(crate) fn readers_work_during_a_run() {
    let place = Place::new("a = upper(text(\"a\"))\nb = slow(a, ms = 600000)\n", "sled");
    let mut run = place.start("run");
    while run.line("started").unwrap() != "started b" {}
    let engine = place.engine();
    let plan = engine.plan(&workflow(&place.text), &[]).unwrap();
    assert_eq!(plan.len(), 3);
    let reader = engine.reader();
    let [id] = reader.runs().unwrap().try_into().unwrap();
    let started = |event: &Event| matches!(event, Event::RunStarted { .. });
    assert!(
        reader
            .log(&id)
            .unwrap()
            .events
            .iter()
            .any(|logged| started(&logged.event))
    );
    assert_eq!(
        engine
            .verify(Level::Full, &RunOptions::default())
            .unwrap()
            .damage,
        []
    );
    assert!(!run.ended());
}
