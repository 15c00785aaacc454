//! SIGINT and SIGTERM sent to real runs: the first stops after the current unit of work, the second
//! exits immediately, and other processes see the state of the run all the while.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A run long enough to receive a signal: five million scenes take minutes.
const LONG_RUN: &str =
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

/// Starts a run and waits until its first stage has started.
fn start(folder: &Path) -> (Child, BufReader<ChildStdout>) {
    fs::write(folder.join("long.blip"), LONG_RUN).unwrap();
    let mut child = blip(folder, &["run", "long.blip", "--format", "json"])
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    wait_for(&mut events, "\"event\":\"stage_started\"");
    (child, events)
}

/// Reads lines up to one that contains `text`.
fn wait_for(output: &mut BufReader<ChildStdout>, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        let read = output.read_line(&mut line).unwrap();
        assert!(read > 0, "the output ended before {text}");
    }
}

/// Repeats `blip status` until it shows `text`: the event log is buffered for some milliseconds, so
/// that `status` can be behind the events on standard output.
fn wait_for_status(folder: &Path, text: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = stdout(blip(folder, &["status"]));
        if status.contains(text) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn read_rest(output: BufReader<ChildStdout>) -> String {
    output.lines().map(|line| line.unwrap() + "\n").collect()
}

fn stdout(mut command: Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn the_first_signal_interrupts_the_run() {
    for name in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, events) = start(folder.path());
        signal(&child, name);
        let events = read_rest(events);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{events}");
        assert!(events.contains("\"status\":\"interrupted\""), "{events}");
        assert!(events.contains("\"outcome\":\"interrupted\""), "{events}");
        assert!(events.ends_with("}\n"), "{events}");
        let mut stderr = String::new();
        let mut messages = BufReader::new(child.stderr.take().unwrap());
        messages.read_line(&mut stderr).unwrap();
        messages.read_line(&mut stderr).unwrap();
        assert_eq!(
            stderr,
            "\nfinishing current work; press Ctrl-C again to stop immediately\n"
        );
        let status = stdout(blip(folder.path(), &["status"]));
        assert!(status.contains("long.blip: interrupted"), "{status}");
    }
}

#[test]
fn a_run_that_does_not_wait_for_another_exits_with_75() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _events) = start(folder.path());
    let output = blip(folder.path(), &["run", "long.blip", "--no-wait"])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let failure = format!(
        "\nworld failed: its result is being computed by process {} on ",
        child.id()
    );
    assert!(printed.contains(&failure), "{printed}");
    let help = "\n  help: wait for that process to finish, then run again\n";
    assert!(printed.contains(help), "{printed}");
    assert_eq!(output.status.code(), Some(75), "{printed}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_second_signal_exits_immediately() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _events) = start(folder.path());
    // Two signals of one kind may be delivered as one, so these are of two kinds.
    signal(&child, "-INT");
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn status_and_log_show_an_active_run_and_an_aborted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _events) = start(folder.path());
    let state = format!("running as process {}", child.id());
    let running = wait_for_status(folder.path(), &state);
    assert!(running.contains("world"), "{running}");
    // The stage's start is in the log then.
    wait_for_status(folder.path(), "read.scenes");
    let log = stdout(blip(folder.path(), &["log"]));
    assert!(log.contains("world: read.scenes started:"), "{log}");
    let follower = blip(folder.path(), &["log", "--follow"]).spawn().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let followed = follower.wait_with_output().unwrap();
    assert!(followed.status.success(), "it ends with the run's process");
    assert_eq!(
        String::from_utf8(followed.stderr).unwrap(),
        "the run was aborted: its process no longer exists\n"
    );
    let aborted = stdout(blip(folder.path(), &["status"]));
    assert!(
        aborted.contains("long.blip: aborted: its process no longer exists; run again to resume"),
        "{aborted}"
    );
}

#[test]
fn a_log_is_followed_until_the_run_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, events) = start(folder.path());
    let mut follower = blip(folder.path(), &["log", "--follow"]).spawn().unwrap();
    let mut followed = BufReader::new(follower.stdout.take().unwrap());
    wait_for(&mut followed, "world: read.scenes started");
    signal(&child, "-INT");
    assert!(read_rest(events).contains("interrupted"));
    child.wait().unwrap();
    let rest = read_rest(followed);
    assert!(rest.contains("world: interrupted"), "{rest}");
    assert!(follower.wait().unwrap().success());
}
