//! Stages in processes of their own, and what becomes of these when the run is killed.

use std::fs;
use std::time::{Duration, Instant};

use crate::child::TestFolder;

/// The ids and process groups of the processes that run a stage for this folder. What has ended has
/// no command line any more.
fn stage_processes(folder: &TestFolder) -> Vec<(u32, u32)> {
    let folder = folder.path().to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        found.extend(stage_process(&entry, folder));
    }
    found
}

fn stage_process(entry: &fs::DirEntry, folder: &str) -> Option<(u32, u32)> {
    let id: u32 = entry.file_name().to_str()?.parse().ok()?;
    let command = fs::read(entry.path().join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command);
    if !command.contains(folder) || !command.contains("job.json") {
        return None;
    }
    // "id (name) state parent group"
    let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let group = after_name.split_whitespace().nth(2)?;
    Some((id, group.parse().ok()?))
}

fn becomes_true(condition: impl Fn() -> bool, limit: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

pub(crate) fn a_run_that_is_killed_leaves_no_child() {
    let folder = TestFolder::new("@isolate a = stubborn()\n", "none");
    let mut run = folder.start("run");
    while run.line("started").unwrap() != "started a" {}
    let has_child = || !stage_processes(&folder).is_empty();
    assert!(
        becomes_true(has_child, Duration::from_secs(20)),
        "the run starts a child"
    );
    let [(id, group)] = stage_processes(&folder).try_into().unwrap();
    assert_eq!(
        id, group,
        "what a terminal sends to the run's group does not reach the child"
    );
    assert_ne!(id, run.id());
    run.kill();
    assert!(
        becomes_true(|| !has_child(), Duration::from_secs(2)),
        "{:?}",
        stage_processes(&folder)
    );
}
