//! Other engines on the same graphs, where they are installed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Shape;
use crate::table::Row;

/// A peer: how it is told of a graph, how it is run, and up to how many stages it is asked for (it
/// would take hours).
struct Peer {
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    file: &'static str,
    write: fn(Shape, usize) -> String,
    size_max: usize,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "ninja",
        program: "ninja",
        args: &["--quiet"],
        file: "build.ninja",
        write: ninja,
        size_max: 100_000,
    },
    Peer {
        name: "make",
        program: "make",
        args: &["-s", "-j2"],
        file: "Makefile",
        write: make,
        size_max: 100_000,
    },
    Peer {
        name: "snakemake",
        program: "snakemake",
        args: &["-q", "-c2", "--nolock"],
        file: "Snakefile",
        write: snakemake,
        size_max: 100,
    },
    Peer {
        name: "dvc",
        program: "dvc",
        args: &["repro", "-q"],
        file: "dvc.yaml",
        write: dvc,
        size_max: 100,
    },
];

fn installed(peer: &Peer) -> bool {
    let found = Command::new(peer.program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

/// The peers that are not there.
pub(crate) fn missing() -> Vec<&'static str> {
    PEERS
        .iter()
        .filter(|peer| !installed(peer))
        .map(|peer| peer.name)
        .collect()
}

/// A row for every peer that is there and can be asked for so many stages.
pub(crate) fn all(shape: Shape, size: usize) -> Vec<Row> {
    let able = PEERS
        .iter()
        .filter(|peer| size <= peer.size_max && installed(peer));
    able.map(|peer| measure(peer, shape, size)).collect()
}

fn measure(peer: &Peer, shape: Shape, size: usize) -> Row {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    fs::write(path.join(peer.file), (peer.write)(shape, size)).expect("room for the graph");
    fs::write(path.join("in"), "").expect("room for the input");
    if peer.name == "dvc" {
        run(path, "dvc", &["init", "-q", "--no-scm"]);
        run(path, "dvc", &["config", "core.analytics", "false"]);
    }
    let cold = run(path, peer.program, peer.args);
    run(path, peer.program, peer.args);
    let noop = (0..crate::NOOPS)
        .filter_map(|_| run(path, peer.program, peer.args))
        .min();
    // The last stage has to run again: its result is gone.
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

fn ninja(shape: Shape, size: usize) -> String {
    let mut text = "rule touch\n  command = touch $out\n".to_owned();
    edges(shape, size).for_each(|(input, number)| {
        let _ = writeln!(text, "build s{number}: touch {input}");
    });
    text
}

fn make(shape: Shape, size: usize) -> String {
    let all: Vec<String> = (0..size).map(|number| format!("s{number}")).collect();
    let mut text = format!("all: {}\n", all.join(" "));
    edges(shape, size).for_each(|(input, number)| {
        let _ = writeln!(text, "s{number}: {input}\n\ttouch $@");
    });
    text
}

fn snakemake(shape: Shape, size: usize) -> String {
    let all: Vec<String> = (0..size).map(|number| format!("\"s{number}\"")).collect();
    let mut text = format!("rule all:\n    input: {}\n", all.join(", "));
    edges(shape, size).for_each(|(input, number)| {
        let _ = writeln!(
            text,
            "rule r{number}:\n    input: \"{input}\"\n    output: \"s{number}\"\n    shell: \"touch {{output}}\""
        );
    });
    text
}

fn dvc(shape: Shape, size: usize) -> String {
    let mut text = "stages:\n".to_owned();
    edges(shape, size).for_each(|(input, number)| {
        let _ = writeln!(
            text,
            "  r{number}:\n    cmd: echo {number} > s{number}\n    deps: [{input}]\n    outs: [s{number}]"
        );
    });
    text
}
