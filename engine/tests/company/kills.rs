//! kill -9, at random times and the moment that something appears: nothing is damaged, nothing
//! finished is done again, and the bytes at the end are those of an undisturbed run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blip_engine::digest::Digest;
use blip_engine::space::Collect;
use blip_engine::{Level, Outcome, RunOptions, Status};

use crate::child::{Place, Process, workflow};

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

/// More rounds when there is time: `make soak`.
fn rounds(few: u64, many: u64) -> u64 {
    if std::env::var_os("BLIP_SOAK").is_some() {
        many
    } else {
        few
    }
}

/// Pseudo-random, other numbers in every test run; the seed is in every message.
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

fn undisturbed() -> String {
    let place = Place::new(GRAPH, "none");
    assert_eq!(place.start("run").end(), Some(0));
    fs::read_to_string(place.folder.path().join("out/j.txt")).unwrap()
}

/// The keys that are known, by the files of records.
fn known(place: &Place) -> BTreeSet<String> {
    files(&place.cache().join("results"))
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
fn ran(place: &Place) -> BTreeMap<String, BTreeSet<String>> {
    let reader = place.engine().reader();
    let runs = reader.runs().unwrap().into_iter();
    let keys = |run: &String| {
        let log = reader.log(run).unwrap();
        let ends = log.ends();
        let ran = ends.values().filter(|end| end.status == Status::Ran);
        ran.filter_map(|end| Some(end.key?.to_string())).collect()
    };
    runs.map(|run| (run.clone(), keys(&run))).collect()
}

/// After a kill: nothing is damaged. Gives what is known now.
fn assert_sound(place: &Place, what: &str) -> BTreeSet<String> {
    let report = place
        .engine()
        .verify(Level::Full, &RunOptions::default())
        .unwrap();
    assert_eq!(report.damage, [], "{what}");
    assert_eq!(report.strangers, Vec::<PathBuf>::new(), "{what}");
    known(place)
}

/// Runs until a run comes to its end, and compares with what is expected.
fn finish(place: &Place, expected: &str, known_at: &[(usize, BTreeSet<String>)], what: &str) {
    assert_eq!(place.start("run").end(), Some(0), "{what}");
    assert_eq!(
        fs::read_to_string(place.folder.path().join("out/j.txt")).unwrap(),
        expected,
        "{what}"
    );
    let runs: Vec<BTreeSet<String>> = ran(place).into_values().collect();
    for (number, known) in known_at {
        for later in runs.get(*number..).unwrap_or_default() {
            let twice: Vec<_> = later.intersection(known).collect();
            assert!(twice.is_empty(), "{what}: ran although known: {twice:?}");
        }
    }
    let mut out: Vec<_> = fs::read_dir(place.folder.path().join("out"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(out.len(), 1, "{what}: {out:?}");
    out.clear();
}

fn runs(place: &Place) -> usize {
    place.engine().reader().runs().unwrap().len()
}

pub(crate) fn killed_at_any_time() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(10, 40) {
        let place = Place::new(GRAPH, if round % 2 == 0 { "sled" } else { "none" });
        let what = format!("round {round}, seed {}", random.0);
        let mut known_at = Vec::new();
        for _ in 0..3 {
            let mut process = place.start("run");
            std::thread::sleep(Duration::from_millis(20 + random.below(380)));
            process.kill();
            let known = assert_sound(&place, &what);
            known_at.push((runs(&place), known));
        }
        finish(&place, &expected, &known_at, &what);
    }
}

/// Waits until `appeared`, and kills; false when the process came to its end first.
fn kill_when(mut process: Process, appeared: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !appeared() {
        if process.ended() {
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
            let place = Place::new(GRAPH, "sled");
            let cache = place.cache();
            let count = || match moment {
                "tmp" => files(&cache.join("tmp"))
                    .iter()
                    .filter(|path| path.extension().is_none())
                    .count(),
                "generating" => {
                    let generating = |path: &&PathBuf| {
                        path.extension()
                            .is_some_and(|extension| extension == "generating")
                    };
                    files(&cache.join("index"))
                        .iter()
                        .filter(generating)
                        .count()
                }
                folder => files(&cache.join(folder)).len(),
            };
            let what = format!("{moment}, round {round}");
            let mut known_at = Vec::new();
            // The moment that one more is there than before; later ones in later rounds.
            for more in 0..2 {
                let before = if moment == "tmp" || moment == "generating" {
                    0
                } else {
                    count()
                };
                let more = usize::try_from(round).unwrap() % 4 + more;
                if kill_when(place.start("run"), || count() > before + more) {
                    *killed.entry(moment).or_insert(0_u32) += 1;
                }
                let known = assert_sound(&place, &what);
                known_at.push((runs(&place), known));
            }
            finish(&place, &expected, &known_at, &what);
        }
    }
    // sled writes a snapshot only now and then: that moment may not come.
    let missed: Vec<_> = moments
        .iter()
        .filter(|moment| **moment != "generating" && !killed.contains_key(*moment))
        .collect();
    assert!(missed.is_empty(), "never killed at {missed:?}");
}

pub(crate) fn killed_while_it_verifies() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(5, 40) {
        let place = Place::new(GRAPH, "none");
        let what = format!("round {round}, seed {}", random.0);
        assert_eq!(place.start("run").end(), Some(0));
        let objects = files(&place.cache().join("objects"));
        for object in objects.iter().step_by(2) {
            fs::write(object, "damaged").unwrap();
        }
        let mut process = place.start("verify");
        assert!(process.line("begins").is_some());
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        process.kill();
        let report = place
            .engine()
            .verify(Level::Full, &RunOptions::default())
            .unwrap();
        let aside = fs::read_dir(place.cache().join("damaged")).unwrap().count();
        assert_eq!(
            aside,
            objects.len().div_ceil(2),
            "{what}: all that was damaged is kept, each once"
        );
        let engine = place.engine();
        let repaired = engine
            .repair(&report, &workflow(GRAPH), &RunOptions::default(), &mut [])
            .unwrap();
        assert_eq!(repaired.lost, [], "{what}");
        let summary = engine
            .run(&workflow(GRAPH), &RunOptions::default(), &mut [])
            .unwrap();
        assert_eq!(summary.outcome, Outcome::Done, "{what}");
        assert_sound(&place, &what);
        assert_eq!(
            fs::read_to_string(place.folder.path().join("out/j.txt")).unwrap(),
            expected,
            "{what}"
        );
    }
}

/// The bytes of every object whose name is true, by path.
fn whole(place: &Place) -> BTreeSet<PathBuf> {
    let true_to_its_name = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str()?.parse::<Digest>().ok());
        Digest::of_file(path).is_ok_and(|(found, _)| Some(found) == name)
    };
    files(&place.cache().join("objects"))
        .into_iter()
        .filter(true_to_its_name)
        .collect()
}

pub(crate) fn killed_while_it_repairs() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(2, 40) {
        let place = Place::new(GRAPH, if round % 2 == 0 { "none" } else { "sled" });
        let what = format!("round {round}, seed {}", random.0);
        assert_eq!(place.start("run").end(), Some(0));
        for object in files(&place.cache().join("objects")).iter().step_by(2) {
            fs::write(object, "damaged").unwrap();
        }
        let before = whole(&place);
        let mut process = place.start("repair");
        assert!(process.line("begins").is_some());
        std::thread::sleep(Duration::from_micros(random.below(400_000)));
        process.kill();
        let after = whole(&place);
        assert!(
            before.is_subset(&after),
            "{what}: lost {:?}",
            before.difference(&after)
        );
        assert_eq!(place.start("repair").end(), Some(0), "{what}");
        finish(&place, &expected, &[], &what);
        assert_sound(&place, &what);
    }
}

pub(crate) fn killed_while_it_collects() {
    let expected = undisturbed();
    let mut random = Random::new();
    for round in 0..rounds(2, 40) {
        let place = Place::new(GRAPH, if round % 2 == 0 { "none" } else { "sled" });
        let what = format!("round {round}, seed {}", random.0);
        let junk: String = (0..20)
            .map(|number| format!("t{number} = upper(text(\"junk {number}\"))\n"))
            .collect();
        let summary = place
            .engine()
            .run(&workflow(&junk), &RunOptions::default(), &mut [])
            .unwrap();
        assert_eq!(summary.outcome, Outcome::Done);
        let junk = known(&place);
        assert_eq!(place.start("run").end(), Some(0));
        let live: BTreeSet<String> = known(&place).difference(&junk).cloned().collect();
        let mut process = place.start("collect");
        assert!(process.line("begins").is_some());
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
        process.kill();
        let left = assert_sound(&place, &what);
        assert!(
            live.is_subset(&left),
            "{what}: lost {:?}",
            live.difference(&left)
        );
        finish(&place, &expected, &[(runs(&place), live.clone())], &what);
        let all = Collect {
            keep_runs: 1,
            min_age: None,
            max_bytes: None,
            dry_run: false,
        };
        place.engine().collect(&all, false).unwrap();
        assert_eq!(
            assert_sound(&place, &what),
            live,
            "{what}: the next one finishes what was begun"
        );
        finish(&place, &expected, &[(runs(&place), live)], &what);
    }
}
