//! Caches of earlier versions can be read: `tests/fixtures/cache-v1`, described in its README.

use std::fs;
use std::path::{Path, PathBuf};

use blip_engine::{Outcome, PlannedAction, Status};

use crate::scene;

const WORKFLOW: &str = "\
a = text(\"alpha\")
b = upper(a)
p = parcel(b)
f = file(\"notes.txt\")
l = lines(\"lines.txt\")
s = shout(l, copies = 2)
w = show(s)
@checkpoint(every = 2) t = train(join(a, f, p), steps = 7)
";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cache-v1")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

#[test]
fn version_1() {
    let world = scene::world();
    if std::env::var_os("BLIP_MAKE_FIXTURE").is_some() {
        assert_eq!(world.run(WORKFLOW).outcome, Outcome::Done);
        for folder in ["objects", "results", "units", "ledgers", "version"] {
            let (from, to) = (world.config.cache.join(folder), fixture().join(folder));
            if from.is_dir() {
                copy(&from, &to)
            } else {
                drop(fs::copy(from, to))
            }
        }
        return;
    }
    copy(&fixture(), &world.config.cache);
    fs::remove_file(world.config.cache.join("README.md")).unwrap();
    let report = scene::verify(&world);
    assert_eq!(report.corruptions, []);
    assert!(
        report.records >= 9 && report.other_versions == 0 && report.groups >= 1,
        "{report:?}"
    );
    assert!(
        world
            .plan(WORKFLOW)
            .iter()
            .all(|planned| planned.action == PlannedAction::Reuse)
    );
    let summary = world.run(WORKFLOW);
    assert!(
        summary
            .stages
            .iter()
            .all(|end| end.status == Status::Reused),
        "{:#?}",
        summary.stages
    );
    assert!(world.calls.take().is_empty());
    // Units outlive the record of their stage.
    let key = summary.results["s"].key;
    fs::remove_file(world.record_path(&key)).unwrap();
    fs::remove_dir_all(world.config.cache.join("ledgers")).unwrap();
    assert_eq!(world.run(WORKFLOW).outcome, Outcome::Done);
    assert_eq!(world.calls.take().get("unit"), None);
}
