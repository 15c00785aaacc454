//! Folders that are tests: `tests/cases/cli/<command>/<name>/` holds `cmd`, a shell script that
//! calls `blip`, and what has to come of it: `stdout`, `stderr` and `exit_code` (missing ones are
//! empty, and 0), and `outputs/`, files that it has to leave. `inputs/` is copied to where the
//! script runs. `BLESS=1` rewrites the expectations.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Failed, Trial};
use regex::{Captures, Regex};
use similar::TextDiff;

fn main() -> io::Result<()> {
    let args = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/cli");
    let mut trials = Vec::new();
    for folder in cases(&root)? {
        let name = folder
            .strip_prefix(&root)
            .unwrap_or(&folder)
            .display()
            .to_string();
        trials.push(Trial::test(name, move || check(&folder)));
    }
    libtest_mimic::run(&args, trials).exit()
}

/// The folders that hold a `cmd`, in order.
fn cases(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.join("cmd").is_file() {
            found.push(path);
        } else if path.is_dir() {
            found.extend(cases(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

fn check(case: &Path) -> Result<(), Failed> {
    let place = tempfile::tempdir()?;
    // A link in the path of temporary folders would show in messages.
    let folder = place.path().canonicalize()?;
    if case.join("inputs").is_dir() {
        copy(&case.join("inputs"), &folder)?;
    }
    let output = run(&case.join("cmd"), &folder)?;
    let mask = Mask::new(&folder);
    let code = output
        .status
        .code()
        .map_or("killed by a signal".to_owned(), |code| code.to_string());
    let code = if code == "0" {
        String::new()
    } else {
        format!("{code}\n")
    };
    let mut wrong = Vec::new();
    compare(&case.join("exit_code"), &code, &mut wrong)?;
    compare(
        &case.join("stdout"),
        &mask.apply(&output.stdout),
        &mut wrong,
    )?;
    compare(
        &case.join("stderr"),
        &mask.apply(&output.stderr),
        &mut wrong,
    )?;
    for file in files(&case.join("outputs"))? {
        let name = file.strip_prefix(case.join("outputs"))?;
        let left = fs::read(folder.join(name)).unwrap_or_default();
        compare(&file, &mask.apply(&left), &mut wrong)?;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

fn run(script: &Path, folder: &Path) -> io::Result<Output> {
    let program = Path::new(env!("CARGO_BIN_EXE_blip"));
    let own = program
        .parent()
        .map(|folder| folder.display().to_string())
        .unwrap_or_default();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command
        .arg(script)
        .current_dir(folder)
        .env("PATH", path)
        .env("HOME", folder);
    for name in ["NO_COLOR", "CI", "RUST_LOG", "TERM", "COLUMNS"] {
        command.env_remove(name);
    }
    command.output()
}

/// Compares with what a file holds, or writes it when expectations are to be rewritten.
fn compare(path: &Path, found: &str, wrong: &mut Vec<String>) -> io::Result<()> {
    if std::env::var_os("BLESS").is_some() {
        let outputs = path.components().any(|part| part.as_os_str() == "outputs");
        if found.is_empty() && !outputs {
            let _ = fs::remove_file(path);
            return Ok(());
        }
        return fs::write(path, found);
    }
    let due = fs::read_to_string(path).unwrap_or_default();
    if due != found {
        let diff = TextDiff::from_lines(&due, found)
            .unified_diff()
            .header("due", "found")
            .to_string();
        wrong.push(format!("{}:\n{diff}", path.display()));
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from).unwrap_or(&file));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(&file, target)?;
    }
    Ok(())
}

/// All files below a folder, in order; none when there is no such folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?)
        } else {
            found.push(path)
        }
    }
    found.sort();
    Ok(found)
}

/// What differs from run to run, and what stands for it in expectations.
struct Mask {
    folder: String,
    rules: Vec<(Regex, &'static str)>,
}

impl Mask {
    fn new(folder: &Path) -> Self {
        let rule = |pattern: &str, stands| {
            (
                Regex::new(pattern).expect("the patterns are written here"),
                stands,
            )
        };
        let rules = vec![
            rule(r"\b0\d{13}-\d+", "[RUN]"),
            rule(
                r#""(at_ms|took_ms|last_took_ms|estimate_ms|started_ms|pid|since)":\d+"#,
                r#""$1":0"#,
            ),
            rule(r"process \d+", "process [PID]"),
            rule(r" for \d+ s\b", " for [TIME]"),
            // The blanks before a time depend on its length.
            rule(
                r" *\b(\d+ms|\d+\.\ds|\d+m \d\ds|\d+h \d\dm|\d+d \d+h)( ago)?\b",
                " [TIME]",
            ),
            rule(r"blip \d+\.\d+\.\d+", "blip [VERSION]"),
        ];
        Self {
            folder: folder.display().to_string(),
            rules,
        }
    }

    fn apply(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).replace(&self.folder, "[DIR]");
        for (pattern, stands) in &self.rules {
            text = pattern
                .replace_all(&text, |found: &Captures<'_>| {
                    let mut expanded = String::new();
                    found.expand(stands, &mut expanded);
                    expanded
                })
                .into_owned();
        }
        text
    }
}
