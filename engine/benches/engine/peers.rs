//! Other engines on the same graphs, where they are installed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Shape;
use crate::table::Row;

struct Peer {
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    /// The file that describes the graph, and its text.
    file: &'static str,
    describe: fn(Shape, usize) -> String,
    /// Graphs with more stages would take it hours.
    size_max: usize,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "ninja",
        program: "ninja",
        args: &["--quiet"],
        file: "build.ninja",
        describe: describe_for_ninja,
        size_max: 100_000,
    },
    Peer {
        name: "make",
        program: "make",
        args: &["-s", "-j2"],
        file: "Makefile",
        describe: describe_for_make,
        size_max: 100_000,
    },
    Peer {
        name: "snakemake",
        program: "snakemake",
        args: &["-q", "-c2", "--nolock"],
        file: "Snakefile",
        describe: describe_for_snakemake,
        size_max: 100,
    },
    Peer {
        name: "dvc",
        program: "dvc",
        args: &["repro", "-q"],
        file: "dvc.yaml",
        describe: describe_for_dvc,
        size_max: 100,
    },
];

fn is_installed(peer: &Peer) -> bool {
    let status = Command::new(peer.program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// The peers that are not installed.
pub(crate) fn missing() -> Vec<&'static str> {
    PEERS
        .iter()
        .filter(|peer| !is_installed(peer))
        .map(|peer| peer.name)
        .collect()
}

/// A row for every installed peer that can do this many stages.
pub(crate) fn measure_all(shape: Shape, size: usize) -> Vec<Row> {
    PEERS
        .iter()
        .filter(|peer| size <= peer.size_max && is_installed(peer))
        .map(|peer| measure(peer, shape, size))
        .collect()
}

fn measure(peer: &Peer, shape: Shape, size: usize) -> Row {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    fs::write(path.join(peer.file), (peer.describe)(shape, size)).expect("space for the graph");
    fs::write(path.join("in"), "").expect("space for the input");
    if peer.name == "dvc" {
        run(path, "dvc", &["init", "-q", "--no-scm"]);
        run(path, "dvc", &["config", "core.analytics", "false"]);
    }
    let cold = run(path, peer.program, peer.args);
    run(path, peer.program, peer.args);
    let noop = (0..crate::NOOP_RUNS)
        .filter_map(|_| run(path, peer.program, peer.args))
        .min();
    // Without its result, the last stage has to run again.
    let _ = fs::remove_file(path.join(format!("s{}", size - 1)));
    let changed = run(path, peer.program, peer.args);
    let times = vec![("cold", cold), ("no-op", noop), ("changed", changed)];
    Row {
        engine: peer.name,
        graph: format!("{} {size}", shape.name()),
        times,
        note: String::new(),
    }
}

fn run(folder: &Path, program: &str, args: &[&str]) -> Option<Duration> {
    let started = Instant::now();
    let mut command = Command::new(program);
    let status = command
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    status.success().then(|| started.elapsed())
}

/// Input and number of every stage.
fn edges(shape: Shape, size: usize) -> impl Iterator<Item = (String, usize)> {
    (0..size).map(move |number| match (number, shape) {
        (0, _) => ("in".to_owned(), 0),
        (_, Shape::Chain) => (format!("s{}", number - 1), number),
        (_, Shape::Fan) => ("s0".to_owned(), number),
    })
}

fn describe_for_ninja(shape: Shape, size: usize) -> String {
    let mut text = "rule touch\n  command = touch $out\n".to_owned();
    for (input, number) in edges(shape, size) {
        let _ = writeln!(text, "build s{number}: touch {input}");
    }
    text
}

fn describe_for_make(shape: Shape, size: usize) -> String {
    let all: Vec<String> = (0..size).map(|number| format!("s{number}")).collect();
    let mut text = format!("all: {}\n", all.join(" "));
    for (input, number) in edges(shape, size) {
        let _ = writeln!(text, "s{number}: {input}\n\ttouch $@");
    }
    text
}

fn describe_for_snakemake(shape: Shape, size: usize) -> String {
    let all: Vec<String> = (0..size).map(|number| format!("\"s{number}\"")).collect();
    let mut text = format!("rule all:\n    input: {}\n", all.join(", "));
    for (input, number) in edges(shape, size) {
        let _ = writeln!(
            text,
            "rule r{number}:\n    input: \"{input}\"\n    output: \"s{number}\"\n    \
             shell: \"touch {{output}}\""
        );
    }
    text
}

fn describe_for_dvc(shape: Shape, size: usize) -> String {
    let mut text = "stages:\n".to_owned();
    for (input, number) in edges(shape, size) {
        let _ = writeln!(
            text,
            "  r{number}:\n    cmd: echo {number} > s{number}\n    deps: [{input}]\n    \
             outs: [s{number}]"
        );
    }
    text
}
