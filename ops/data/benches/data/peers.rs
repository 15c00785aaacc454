//! Python libraries on the same files, where they are installed: one process that does the works
//! it is told and says how long each took.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/data/peers.py");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Environments of `make peers`.
const VENVS: [&str; 2] = [
    "target/peers/pillow/bin/python",
    "target/peers/webdataset/bin/python",
];
const LIBRARIES: [&str; 2] = ["pillow", "webdataset"];

pub(crate) struct Python {
    process: Child,
    works: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Its libraries, out of [`LIBRARIES`].
    libraries: String,
}

/// The Python that has most of the libraries, and which it lacks.
pub(crate) fn start() -> (Option<Python>, Vec<&'static str>) {
    let venvs = VENVS.iter().map(|path| Path::new(ROOT).join(path));
    let python = [PathBuf::from("python3")]
        .into_iter()
        .chain(venvs)
        .filter_map(|path| Python::open(&path))
        .filter(|python| !python.libraries.is_empty())
        .max_by_key(|python| python.libraries.len());
    let has = |name: &str| python.as_ref().is_some_and(|python| python.has(name));
    let missing = LIBRARIES.into_iter().filter(|name| !has(name)).collect();
    (python, missing)
}

impl Python {
    /// None where there is no such Python.
    fn open(path: &Path) -> Option<Self> {
        let mut process = Command::new(path)
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut python = Self {
            works: process.stdin.take(),
            answers: BufReader::new(process.stdout.take()?),
            process,
            libraries: String::new(),
        };
        python.libraries = python.answer();
        Some(python)
    }

    pub(crate) fn has(&self, library: &str) -> bool {
        self.libraries.split(' ').any(|found| found == library)
    }

    /// Does a work once.
    pub(crate) fn time(&mut self, work: &str, path: &Path) -> Duration {
        let works = self.works.as_mut().expect("it is open until it is dropped");
        writeln!(works, "{work} {}", path.display()).expect("a running Python");
        let answer = self.answer();
        Duration::from_secs_f64(answer.parse().expect("the peer's seconds"))
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a running Python");
        line.trim().to_owned()
    }
}

impl Drop for Python {
    /// It ends when there is nothing more to read.
    fn drop(&mut self) {
        drop(self.works.take());
        let _ = self.process.wait();
    }
}
