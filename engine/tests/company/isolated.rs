//! Stages in processes of their own, and what becomes of these when the run is killed.

use std::fs;
use std::time::{Duration, Instant};

use crate::child::Place;

/// The processes that run a stage for this place, with their process groups. What has ended has no
/// command line any more.
fn children(place: &Place) -> Vec<(u32, u32)> {
    let folder = place.folder.path().to_str().unwrap();
    let process = |entry: fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let command =
            String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).ok()?).into_owned();
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // "id (name) state parent group"
        let group = stat
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(2)?
            .parse()
            .ok()?;
        (command.contains(folder) && command.contains("job.json")).then_some((id, group))
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(process)
        .collect()
}

fn waits_for(what: impl Fn() -> bool, limit: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

pub(crate) fn a_run_that_is_killed_leaves_no_child() {
    let place = Place::new("@isolate a = stubborn()\n", "none");
    let mut run = place.start("run");
    while run.line("started").unwrap() != "started a" {}
    assert!(
        waits_for(|| !children(&place).is_empty(), Duration::from_secs(20)),
        "it has a child"
    );
    let [(id, group)] = children(&place).try_into().unwrap();
    assert_eq!(
        id, group,
        "what a terminal sends to the run's group does not reach the child"
    );
    assert_ne!(id, run.id());
    run.kill();
    assert!(
        waits_for(|| children(&place).is_empty(), Duration::from_secs(2)),
        "{:?}",
        children(&place)
    );
}
