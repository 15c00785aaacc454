//! kill -9, at random times and the moment that a file appears: nothing is corrupt, nothing
//! finished runs again, and the bytes at the end are those of an undisturbed run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blip_engine::digest::Digest;
use blip_engine::space::GcOptions;
use blip_engine::{Outcome, RunOptions, Status, VerifyLevel};

use crate::child::{Process, TestFolder, workflow};

const GRAPH: &str = "\
a = slow(text(\"a\"), ms = 30)
b = upper(a)
p = parcel(b)
f = file(\"notes.txt\")
l = lines(\"lines.txt\")
s = shout(l, copies = 3)
w = slow(show(s), ms = 30)
@checkpoint(every = 2) t = train(join(b, f, p), steps = 30, pause = 4)
j = slow(join(t, w), ms = 30)
export j as txt \"out/j.txt\"
";

/// Many rounds in `make soak`, few otherwise.
fn rounds(few: u64, many: u64) -> u64 {
    if std::env::var_os("BLIP_SOAK").is_some() {
        many
    } else {
        few
    }
}

/// Pseudo-random numbers with another seed in every test run; the seed is in every message.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        Self(u64::try_from(now & u128::from(u64::MAX)).unwrap())
    }

    fn below(&mut self, limit: u64) -> u64 {
        let digest = Digest::of(&self.0.to_be_bytes());
        self.0 = u64::from_be_bytes(digest.as_bytes()[..8].try_into().unwrap());
        self.0 % limit
    }
}

/// The output of a run that is not killed.
fn undisturbed() -> String {
    let folder = TestFolder::new(GRAPH, "none");
    assert_eq!(folder.start("run").exit_code(), Some(0));
    fs::read_to_string(folder.path().join("out/j.txt")).unwrap()
}

/// The keys that have records, by the names of the files.
fn recorded_keys(folder: &TestFolder) -> BTreeSet<String> {
    files(&folder.cache().join("results"))
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect()
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()))
        } else {
            found.push(entry.path())
        }
    }
    found
}

/// The keys of the stages that ran in each run, by run.
fn keys_that_ran(folder: &TestFolder) -> BTreeMap<String, BTreeSet<String>> {
    let reader = folder.engine().reader();
    let mut runs = BTreeMap::new();
    for run in reader.runs().unwrap() {
        let log = reader.log(&run).unwrap();
        let keys = log
            .ends()
            .values()
            .filter(|end| end.status == Status::Ran)
            .filter_map(|end| Some(end.key?.to_string()))
            .collect();
        runs.insert(run, keys);
    }
    runs
}

/// After a kill: nothing is corrupt. Returns the keys that have records.
fn assert_sound(folder: &TestFolder, what: &str) -> BTreeSet<String> {
    let report = folder
        .engine()
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap();
    assert_eq!(report.corruptions, [], "{what}");
    assert_eq!(report.unknown_files, Vec::<PathBuf>::new(), "{what}");
    recorded_keys(folder)
}

/// Runs to the end and compares with what is expected. `recorded_at` are numbers of runs, and the
/// keys that had records before the next one began: those must not run again.
fn finish(
    folder: &TestFolder,
    expected: &str,
    recorded_at: &[(usize, BTreeSet<String>)],
    what: &str,
) {
    assert_eq!(folder.start("run").exit_code(), Some(0), "{what}");
    assert_eq!(
        fs::read_to_string(folder.path().join("out/j.txt")).unwrap(),
        expected,
        "{what}"
    );
    let runs: Vec<BTreeSet<String>> = keys_that_ran(folder).into_values().collect();
    for (number, recorded) in recorded_at {
        for later in runs.get(*number..).unwrap_or_default() {
            let twice: Vec<_> = later.intersection(recorded).collect();
            assert!(twice.is_empty(), "{what}: ran although recorded: {twice:?}");
        }
    }
    let out = fs::read_dir(folder.path().join("out")).unwrap();
    let out: Vec<_> = out.flatten().collect();
    // The file and its receipt.
    assert_eq!(out.len(), 2, "{what}: {out:?}");
}

fn count_runs(folder: &TestFolder) -> usize {
    folder.engine().reader().runs().unwrap().len()
}

pub(crate) fn killed_at_any_time() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(10, 40) {
        let folder = TestFolder::new(GRAPH, if round % 2 == 0 { "sled" } else { "none" });
        let what = format!("round {round}, seed {}", random.0);
        let mut recorded_at = Vec::new();
        for _ in 0..3 {
            let mut process = folder.start("run");
            std::thread::sleep(Duration::from_millis(20 + random.below(380)));
            process.kill();
            let recorded = assert_sound(&folder, &what);
            recorded_at.push((count_runs(&folder), recorded));
        }
        finish(&folder, &expected, &recorded_at, &what);
    }
}

/// Kills the process as soon as the condition holds; false when it exited before.
fn kill_when(mut process: Process, condition: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !condition() {
        if process.has_exited() {
            return false;
        }
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "a run takes a second"
        );
    }
    process.kill();
    true
}

/// The files whose appearance is a moment to kill at.
fn count_files(cache: &Path, moment: &str) -> usize {
    match moment {
        // Temporary files, not the locks of sessions.
        "tmp" => files(&cache.join("tmp"))
            .iter()
            .filter(|path| path.extension().is_none())
            .count(),
        // Snapshots that sled is writing.
        "generating" => files(&cache.join("index"))
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "generating"))
            .count(),
        // The receipt and the file itself.
        "exports" => files(&cache.with_file_name("out")).len(),
        folder => files(&cache.join(folder)).len(),
    }
}

pub(crate) fn killed_at_every_kind_of_moment() {
    let expected = undisturbed();
    let mut killed = BTreeMap::new();
    let moments = [
        "tmp",
        "objects",
        "units",
        "results",
        "checkpoints",
        "exports",
        "generating",
    ];
    for moment in moments {
        for round in 0..rounds(2, 60) {
            let folder = TestFolder::new(GRAPH, "sled");
            let cache = folder.cache();
            let count = || count_files(&cache, moment);
            let what = format!("{moment}, round {round}");
            let mut recorded_at = Vec::new();
            // The moment that there is one file more than before; two more, and so on in later
            // rounds.
            for more in 0..2 {
                let before = if moment == "tmp" || moment == "generating" {
                    0
                } else {
                    count()
                };
                let more = usize::try_from(round).unwrap() % 4 + more;
                if kill_when(folder.start("run"), || count() > before + more) {
                    *killed.entry(moment).or_insert(0_u32) += 1;
                }
                let recorded = assert_sound(&folder, &what);
                recorded_at.push((count_runs(&folder), recorded));
            }
            finish(&folder, &expected, &recorded_at, &what);
        }
    }
    // sled writes a snapshot only now and then: that moment may not come.
    let missed: Vec<_> = moments
        .iter()
        .filter(|moment| **moment != "generating" && !killed.contains_key(*moment))
        .collect();
    assert!(missed.is_empty(), "never killed at {missed:?}");
}

pub(crate) fn killed_during_verification() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(5, 40) {
        let folder = TestFolder::new(GRAPH, "none");
        let what = format!("round {round}, seed {}", random.0);
        assert_eq!(folder.start("run").exit_code(), Some(0));
        let objects = files(&folder.cache().join("objects"));
        for object in objects.iter().step_by(2) {
            fs::write(object, "damaged").unwrap();
        }
        let mut process = folder.start("verify");
        assert!(process.line("begins").is_some());
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        process.kill();
        let report = folder
            .engine()
            .verify(VerifyLevel::Full, &RunOptions::default())
            .unwrap();
        let moved = fs::read_dir(folder.cache().join("corrupt"))
            .unwrap()
            .count();
        assert_eq!(
            moved,
            objects.len().div_ceil(2),
            "{what}: every corrupt file is kept, once"
        );
        let engine = folder.engine();
        let repaired = engine
            .repair(&report, &workflow(GRAPH), &RunOptions::default(), &mut [])
            .unwrap();
        assert_eq!(repaired.failed, [], "{what}");
        let summary = engine
            .run(&workflow(GRAPH), &RunOptions::default(), &mut [])
            .unwrap();
        assert_eq!(summary.outcome, Outcome::Done, "{what}");
        assert_sound(&folder, &what);
        assert_eq!(
            fs::read_to_string(folder.path().join("out/j.txt")).unwrap(),
            expected,
            "{what}"
        );
    }
}

/// The paths of the objects whose bytes match their names.
fn valid_objects(folder: &TestFolder) -> BTreeSet<PathBuf> {
    let mut objects = BTreeSet::new();
    for path in files(&folder.cache().join("objects")) {
        let name = path.file_name().and_then(|name| name.to_str());
        let named = name.and_then(|name| name.parse::<Digest>().ok());
        if Digest::of_file(&path).is_ok_and(|(actual, _)| Some(actual) == named) {
            objects.insert(path);
        }
    }
    objects
}

pub(crate) fn killed_during_repair() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(2, 40) {
        let folder = TestFolder::new(GRAPH, if round % 2 == 0 { "none" } else { "sled" });
        let what = format!("round {round}, seed {}", random.0);
        assert_eq!(folder.start("run").exit_code(), Some(0));
        for object in files(&folder.cache().join("objects")).iter().step_by(2) {
            fs::write(object, "damaged").unwrap();
        }
        let before = valid_objects(&folder);
        let mut process = folder.start("repair");
        assert!(process.line("begins").is_some());
        std::thread::sleep(Duration::from_micros(random.below(400_000)));
        process.kill();
        let after = valid_objects(&folder);
        assert!(
            before.is_subset(&after),
            "{what}: lost {:?}",
            before.difference(&after)
        );
        assert_eq!(folder.start("repair").exit_code(), Some(0), "{what}");
        finish(&folder, &expected, &[], &what);
        assert_sound(&folder, &what);
    }
}

pub(crate) fn killed_during_collection() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(2, 40) {
        let folder = TestFolder::new(GRAPH, if round % 2 == 0 { "none" } else { "sled" });
        let what = format!("round {round}, seed {}", random.0);
        let junk: String = (0..20)
            .map(|number| format!("t{number} = upper(text(\"junk {number}\"))\n"))
            .collect();
        let summary = folder
            .engine()
            .run(&workflow(&junk), &RunOptions::default(), &mut [])
            .unwrap();
        assert_eq!(summary.outcome, Outcome::Done);
        let junk = recorded_keys(&folder);
        assert_eq!(folder.start("run").exit_code(), Some(0));
        let live: BTreeSet<String> = recorded_keys(&folder).difference(&junk).cloned().collect();
        let mut process = folder.start("collect");
        assert!(process.line("begins").is_some());
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
        process.kill();
        let left = assert_sound(&folder, &what);
        assert!(
            live.is_subset(&left),
            "{what}: lost {:?}",
            live.difference(&left)
        );
        finish(
            &folder,
            &expected,
            &[(count_runs(&folder), live.clone())],
            &what,
        );
        let all = GcOptions {
            keep_runs: 1,
            min_age: None,
            max_bytes: None,
            dry_run: false,
        };
        folder.engine().collect(&all, false).unwrap();
        assert_eq!(
            assert_sound(&folder, &what),
            live,
            "{what}: the next collection finishes what was begun"
        );
        finish(&folder, &expected, &[(count_runs(&folder), live)], &what);
    }
}
