//! Ctrl-C, for real: the first finishes the unit of work in hand, the second ends at once, and a
//! rerun goes on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// More pictures than anybody draws while a test waits.
const LONG: &str =
    "world = read.scenes(\"x\", count = 5000000, seed = 1)\nexport world as json \"world.json\"\n";

fn blip(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blip"));
    command
        .args(args)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts a run and waits until its first stage works.
fn start(folder: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    fs::write(folder.join("long.blip"), LONG).unwrap();
    let mut child = blip(folder, &["run", "long.blip", "--format", "json"])
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"event\":\"stage_started\"") {
        line.clear();
        assert!(
            events.read_line(&mut line).unwrap() > 0,
            "the run ended before its stage began"
        );
    }
    (child, events)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// The rest of what a run tells.
fn rest(events: BufReader<std::process::ChildStdout>) -> String {
    events.lines().map(|line| line.unwrap() + "\n").collect()
}

#[test]
fn the_first_ends_the_run_properly() {
    for name in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, events) = start(folder.path());
        signal(&child, name);
        let told = rest(events);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
        assert!(told.contains("\"status\":\"interrupted\""), "{told}");
        assert!(
            told.ends_with("}\n") && told.contains("\"outcome\":\"interrupted\""),
            "{told}"
        );
        let status = blip(folder.path(), &["status"]).output().unwrap();
        let status = String::from_utf8(status.stdout).unwrap();
        assert!(status.contains("long.blip: interrupted"), "{status}");
    }
}

#[test]
fn another_process_sees_the_run_while_it_goes_on_and_after_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _events) = start(folder.path());
    let status =
        || String::from_utf8(blip(folder.path(), &["status"]).output().unwrap().stdout).unwrap();
    let running = status();
    assert!(
        running.contains(&format!("running as process {}", child.id())),
        "{running}"
    );
    assert!(running.contains("world"), "{running}");
    let log = blip(folder.path(), &["log"]).output().unwrap();
    assert!(
        String::from_utf8(log.stdout)
            .unwrap()
            .contains("world: read.scenes starts: it never ran")
    );
    let follower = blip(folder.path(), &["log", "--follow"]).spawn().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let followed = follower.wait_with_output().unwrap();
    assert!(
        followed.status.success(),
        "it ends when the run's process is gone"
    );
    assert_eq!(
        String::from_utf8(followed.stderr).unwrap(),
        "the run's process is gone: it was broken off\n"
    );
    let killed = status();
    assert!(killed.contains("broken off"), "{killed}");
}

#[test]
fn a_log_is_followed_until_the_run_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, events) = start(folder.path());
    let mut follower = blip(folder.path(), &["log", "--follow"]).spawn().unwrap();
    let mut followed = BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("world: read.scenes starts") {
        line.clear();
        assert!(
            followed.read_line(&mut line).unwrap() > 0,
            "it ended before the run did"
        );
    }
    signal(&child, "-INT");
    assert!(rest(events).contains("interrupted"));
    child.wait().unwrap();
    let told = rest(followed);
    assert!(told.contains("world: interrupted"), "{told}");
    assert!(follower.wait().unwrap().success());
}

#[test]
fn a_second_one_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _events) = start(folder.path());
    // Two of one kind that come together may be delivered as one.
    signal(&child, "-INT");
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
