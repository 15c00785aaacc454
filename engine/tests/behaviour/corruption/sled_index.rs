//! sled's folder, corrupted in every way that is known to stop sled: one warning, a rebuilt index,
//! and no unit is computed twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use blip_engine::cache::disk::Disk;
use blip_engine::cache::{Access, Cache};
use blip_engine::{Digest, IndexKind, Outcome, RunOptions, VerifyLevel};

use crate::scene;
use crate::world::{World, warnings};

const MAP: &str = "l = lines(\"lines.txt\")\ns = shout(l, copies = 3)\n";

/// A world whose index knows thirty units, and a copy of it to corrupt in many ways.
struct IndexCase {
    world: World,
    pristine: tempfile::TempDir,
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place)
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

impl IndexCase {
    fn new() -> Self {
        let mut world = scene::world();
        world.config.index = IndexKind::Sled;
        let old = SystemTime::now() - Duration::from_secs(60);
        let file = fs::File::options()
            .write(true)
            .open(world.folder.path().join("lines.txt"))
            .unwrap();
        file.set_modified(old).unwrap();
        assert_eq!(world.run(MAP).outcome, Outcome::Done);
        // Without its record the map stage runs again, and looks up its units.
        let ledger = world.engine().reader().ledger("toy.blip");
        let key = ledger.get("s").unwrap().key;
        fs::remove_file(world.record_path(&key)).unwrap();
        let pristine = tempfile::tempdir_in(world.folder.path()).unwrap();
        // sled's threads end after the database is closed, and still write then.
        std::thread::sleep(Duration::from_millis(300));
        copy(&world.config.cache, pristine.path());
        Self { world, pristine }
    }

    /// Corrupts the index and runs; returns the warnings.
    fn warnings_after(&self, what: &str, corrupt: impl FnOnce(&Path)) -> Vec<String> {
        copy(self.pristine.path(), &self.world.config.cache);
        corrupt(&self.world.config.cache.join("index"));
        self.world.calls.take();
        let (summary, events) = self.world.run_with(MAP, &RunOptions::default());
        assert_eq!(summary.outcome, Outcome::Done, "{what}");
        let calls = self.world.calls.take();
        assert_eq!(calls.get("unit"), None, "{what}: all units are cached");
        let first = warnings(events);
        assert!(first.len() <= 1, "{what}: {first:?}");
        let (_, events) = self.world.run_with(MAP, &RunOptions::default());
        assert_eq!(warnings(events), [""; 0], "{what}: warned once");
        first
    }

    fn is_rebuilt_after(&self, what: &str, corrupt: impl FnOnce(&Path)) {
        let warnings = self.warnings_after(what, corrupt);
        let [warning] = warnings.as_slice() else {
            panic!("{what}: {warnings:?}")
        };
        let start = "the index was corrupt: rebuilt from ";
        assert!(warning.starts_with(start), "{what}: {warning}");
        let moved_to = self.world.config.cache.join("corrupt/index");
        let end = format!("; the old one is in {}", moved_to.display());
        assert!(warning.ends_with(&end), "{what}: {warning}");
        assert!(moved_to.exists(), "{what}");
    }
}

fn db(index: &Path) -> PathBuf {
    index.join("db")
}

#[test]
fn deleted_or_corrupt() {
    let case = IndexCase::new();
    assert_eq!(case.warnings_after("nothing", |_| {}), [""; 0]);
    let warnings = case.warnings_after("deleted", |index| fs::remove_dir_all(index).unwrap());
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("the index was missing: rebuilt from 31 results in the cache"),
        "{warnings:?}"
    );
    for len in [0, 40, 524_288] {
        let name = "snap.00000000000000FF.generating";
        assert_eq!(
            case.warnings_after("generating", |index| fs::write(
                index.join(name),
                vec![0; len]
            )
            .unwrap()),
            [""; 0]
        );
    }
    case.is_rebuilt_after("conf of zeros", |index| {
        fs::write(index.join("conf"), [0; 62]).unwrap()
    });
    case.is_rebuilt_after("conf of garbage", |index| {
        fs::write(index.join("conf"), "not a configuration").unwrap()
    });
    case.is_rebuilt_after("a file", |index| {
        fs::remove_dir_all(index).unwrap();
        fs::write(index, "no folder").unwrap();
    });
}

#[test]
fn one_that_cannot_be_opened_is_replaced_by_one_in_memory() {
    let case = IndexCase::new();
    copy(case.pristine.path(), &case.world.config.cache);
    // A folder under the name of the lock is one of many reasons.
    fs::create_dir(case.world.config.cache.join("index.lock")).unwrap();
    case.world.calls.take();
    let (summary, events) = case.world.run_with(MAP, &RunOptions::default());
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(
        case.world.calls.take().get("unit"),
        None,
        "all units are cached"
    );
    let warning = format!(
        "the index is unusable: {} cannot be locked: Is a directory (os error 21); using an index in \
         memory until that is fixed",
        case.world.config.cache.join("index.lock").display()
    );
    assert_eq!(warnings(events), [warning.as_str()]);
    let report = case
        .world
        .engine()
        .verify(VerifyLevel::Full, &RunOptions::default())
        .unwrap();
    assert_eq!(
        (report.corruptions, report.index, report.notes),
        (Vec::new(), false, vec![warning])
    );
}

#[test]
fn one_that_another_process_has_open_is_not_checked() {
    let case = IndexCase::new();
    let open = |access| {
        Cache::open(
            &case.world.config.cache,
            IndexKind::Sled,
            Disk::default(),
            access,
            |_| true,
        )
    };
    let other = open(Access::Run).unwrap().cache;
    other.units.get(&[Digest::of(b"any unit")]).unwrap();
    let verify = |level| {
        case.world
            .engine()
            .verify(level, &RunOptions::default())
            .unwrap()
    };
    assert_eq!(
        verify(VerifyLevel::Full).notes,
        ["the index was not checked: another process has it open"]
    );
    assert_eq!(verify(VerifyLevel::Quick).notes, [""; 0]);
    drop(other);
    let report = verify(VerifyLevel::Full);
    assert!(report.index);
    assert_eq!(report.notes, [""; 0]);
}

/// The time it takes is printed and not asserted: it depends on the disk.
#[test]
#[expect(clippy::print_stdout, reason = "--nocapture shows it")]
fn ten_thousand_results_are_all_cached_after_the_index_is_deleted() {
    let mut world = scene::world();
    world.config.index = IndexKind::Sled;
    let text = "l = lines(\"many.txt\")\ns = shout(l, copies = 100)\n";
    world.write(
        "many.txt",
        &(0..100)
            .map(|number| format!("line {number}\n"))
            .collect::<String>(),
    );
    assert_eq!(world.calls_of(text).get("unit"), Some(&10_000));
    for folder in ["results", "ledgers", "maps", "index"] {
        fs::remove_dir_all(world.config.cache.join(folder)).unwrap();
    }
    let started = std::time::Instant::now();
    let (summary, events) = world.run_with(text, &RunOptions::default());
    println!(
        "an index of 10,000 results was rebuilt and used within {:.2} s",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(summary.outcome, Outcome::Done);
    assert_eq!(
        warnings(events),
        ["the index was missing: rebuilt from 10000 results in the cache"]
    );
    assert_eq!(
        world.calls.take().get("unit"),
        None,
        "all of them are cached"
    );
}

#[test]
fn flipped_and_truncated() {
    let case = IndexCase::new();
    let (flips, cuts) = if std::env::var_os("BLIP_SOAK").is_some() {
        (100, 20)
    } else {
        (12, 5)
    };
    let len = fs::metadata(db(&case.pristine.path().join("index")))
        .unwrap()
        .len();
    for number in 0..flips {
        let at = usize::try_from(len * number / flips).unwrap();
        case.warnings_after(&format!("flip at {at}"), |index| {
            let mut bytes = fs::read(db(index)).unwrap();
            bytes[at] ^= 0x10;
            fs::write(db(index), bytes).unwrap();
        });
    }
    for number in 0..cuts {
        let cut = len * number / cuts;
        case.warnings_after(&format!("cut at {cut}"), |index| {
            fs::File::options()
                .write(true)
                .open(db(index))
                .unwrap()
                .set_len(cut)
                .unwrap();
        });
    }
}
