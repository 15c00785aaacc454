//! Command-line tests as folders: `tests/cases/cli/<command>/<name>/` has `cmd`, a shell script
//! that calls `blip`, and the expected `stdout`, `stderr` and `exit_code` (if missing: empty, and
//! 0). Files in `outputs/` are compared with those that the script writes. `inputs/` is copied to
//! the working directory. `BLESS=1` rewrites the expectations.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Failed, Trial};
use regex::Regex;
use similar::TextDiff;

/// Variables that change the output.
const CLEARED_VARIABLES: [&str; 5] = ["NO_COLOR", "CI", "RUST_LOG", "TERM", "COLUMNS"];

fn main() -> io::Result<()> {
    let args = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/cli");
    let mut trials = Vec::new();
    for case in find_cases(&root)? {
        let name = case.strip_prefix(&root).unwrap_or(&case);
        let name = name.display().to_string();
        trials.push(Trial::test(name, move || check(&case)));
    }
    libtest_mimic::run(&args, trials).exit()
}

/// The folders with a `cmd`, sorted.
fn find_cases(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.join("cmd").is_file() {
            cases.push(path);
        } else if path.is_dir() {
            cases.extend(find_cases(&path)?);
        }
    }
    cases.sort();
    Ok(cases)
}

fn check(case: &Path) -> Result<(), Failed> {
    let temporary = tempfile::tempdir()?;
    // Where /tmp is a symbolic link, messages would show another path than the mask replaces.
    let folder = temporary.path().canonicalize()?;
    copy_all(&case.join("inputs"), &folder)?;
    let output = run(&case.join("cmd"), &folder)?;
    let mask = Mask::new(&folder);
    let stdout = mask.apply(&output.stdout);
    let stderr = mask.apply(&output.stderr);
    let mut differences = Vec::new();
    compare(
        &case.join("exit_code"),
        &exit_code(&output),
        &mut differences,
    )?;
    compare(&case.join("stdout"), &stdout, &mut differences)?;
    compare(&case.join("stderr"), &stderr, &mut differences)?;
    let outputs = case.join("outputs");
    for expected in files_below(&outputs)? {
        let name = expected.strip_prefix(&outputs)?;
        let written = fs::read(folder.join(name)).unwrap_or_default();
        compare(&expected, &mask.apply(&written), &mut differences)?;
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.join("\n").into())
    }
}

/// The content of an `exit_code` file; empty for success.
fn exit_code(output: &Output) -> String {
    match output.status.code() {
        Some(0) => String::new(),
        Some(code) => format!("{code}\n"),
        None => "killed by a signal\n".to_owned(),
    }
}

/// Runs a script in a folder, with `blip` on the path.
fn run(script: &Path, folder: &Path) -> io::Result<Output> {
    let binary = Path::new(env!("CARGO_BIN_EXE_blip"));
    let mut paths: Vec<PathBuf> = binary.parent().map(Path::to_path_buf).into_iter().collect();
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    paths.extend(std::env::split_paths(&inherited));
    let path = std::env::join_paths(paths).map_err(io::Error::other)?;
    let mut command = Command::new("sh");
    command
        .arg(script)
        .current_dir(folder)
        .env("PATH", path)
        .env("HOME", folder);
    for name in CLEARED_VARIABLES {
        command.env_remove(name);
    }
    command.output()
}

/// Compares a text with an expectation, or with `BLESS=1` writes the expectation.
fn compare(path: &Path, actual: &str, differences: &mut Vec<String>) -> io::Result<()> {
    if std::env::var_os("BLESS").is_some() {
        return bless(path, actual);
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected != actual {
        let diff = TextDiff::from_lines(&expected, actual)
            .unified_diff()
            .header("expected", "actual")
            .to_string();
        differences.push(format!("{}:\n{diff}", path.display()));
    }
    Ok(())
}

/// Empty expectations have no file, except in `outputs/`, where the file says what to compare.
fn bless(path: &Path, actual: &str) -> io::Result<()> {
    let is_output = path.components().any(|part| part.as_os_str() == "outputs");
    if !actual.is_empty() || is_output {
        return fs::write(path, actual);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    for file in files_below(from)? {
        let target = to.join(file.strip_prefix(from).unwrap_or(&file));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(&file, target)?;
    }
    Ok(())
}

/// All files below a folder, sorted; none if the folder does not exist.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Replaces what differs between runs: times, ids, paths.
struct Mask {
    folder: String,
    rules: Vec<(Regex, &'static str)>,
}

impl Mask {
    fn new(folder: &Path) -> Self {
        let rules = [
            (r"\b0\d{13}-\d+", "[RUN]"),
            (
                r#""(at_ms|took_ms|last_took_ms|estimate_ms|started_ms|pid|since)":\d+"#,
                r#""$1":0"#,
            ),
            (r"process \d+", "process [PID]"),
            (r" for \d+ s\b", " for [TIME]"),
            // With the blanks in front, since tables align times by their length.
            (
                r" *\b(\d+ms|\d+\.\ds|\d+m \d\ds|\d+h \d\dm|\d+d \d+h)( ago)?\b",
                " [TIME]",
            ),
            (r"blip \d+\.\d+\.\d+", "blip [VERSION]"),
        ];
        let compile = |pattern| Regex::new(pattern).expect("the patterns are constant");
        Self {
            folder: folder.display().to_string(),
            rules: rules
                .into_iter()
                .map(|(pattern, replacement)| (compile(pattern), replacement))
                .collect(),
        }
    }

    fn apply(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).replace(&self.folder, "[DIR]");
        for (pattern, replacement) in &self.rules {
            text = pattern.replace_all(&text, *replacement).into_owned();
        }
        text
    }
}
