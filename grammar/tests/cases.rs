//! Every folder under `cases/` is a test: `parse/NAME`, `check/NAME` and `format/NAME` each contain
//! a `source.blip` and the expected results. `BLESS=1` rewrites those; read the diff before
//! committing it.
//!
//! Optional inputs are `overrides.txt`, with lines of `name=value`, and `repeat.txt`: how many
//! times the source is repeated.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use blip_grammar::{Diagnostic, ParamOverride, Source, check, codes, format, parse};
use libtest_mimic::{Arguments, Failed, Trial};

use support::{dump, invariants, toy};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut trials = Vec::new();
    for (kind, run) in [
        ("parse", parse_case as fn(&Case) -> Outcome),
        ("check", check_case),
        ("format", format_case),
    ] {
        for folder in folders(&root.join(kind)) {
            let name = format!(
                "{kind}/{}",
                folder.file_name().unwrap_or_default().to_string_lossy()
            );
            trials.push(Trial::test(name, move || {
                compare(&folder, &run(&Case::read(&folder)))
            }));
        }
    }
    trials.push(Trial::test("every code has a case", move || {
        every_code(&root)
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// The inputs of a case.
struct Case {
    bytes: Vec<u8>,
    overrides: Vec<ParamOverride>,
}

/// The expected files of a case with their text; a file without text must not exist.
type Outcome = Vec<(&'static str, String)>;

impl Case {
    fn read(folder: &Path) -> Case {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let times: usize = text("repeat.txt").trim().parse().unwrap_or(1);
        let overrides = text("overrides.txt");
        let overrides = overrides.lines().map(|line| {
            let (name, value) = line.split_once('=').expect("an override is name=value");
            ParamOverride {
                name: name.to_owned(),
                value: value.to_owned(),
            }
        });
        let bytes = fs::read(folder.join("source.blip")).expect("every case has a source.blip");
        Case {
            bytes: bytes.repeat(times),
            overrides: overrides.collect(),
        }
    }

    fn source(&self) -> Result<Source, String> {
        Source::from_bytes("source.blip", self.bytes.clone()).map_err(|diagnostic| {
            let empty = Source::new("source.blip", "").expect("an empty text is valid");
            list(&[*diagnostic], &empty)
        })
    }
}

fn parse_case(case: &Case) -> Outcome {
    match case.source() {
        Err(errors) => vec![("tree.txt", String::new()), ("errors.txt", errors)],
        Ok(source) => {
            invariants::check_invariants(source.text());
            let parsed = parse(&source);
            vec![
                ("tree.txt", dump::tree(&parsed.file, &source)),
                ("errors.txt", list(&parsed.diagnostics, &source)),
            ]
        }
    }
}

fn check_case(case: &Case) -> Outcome {
    match case.source() {
        Err(errors) => vec![("program.txt", String::new()), ("errors.txt", errors)],
        Ok(source) => {
            let parsed = parse(&source);
            let checked = check(&parsed.file, &source, &toy::signatures(), &case.overrides);
            let mut diagnostics = [parsed.diagnostics, checked.diagnostics].concat();
            diagnostics.sort_by_key(|diagnostic| diagnostic.span);
            let program = checked.program.filter(|_| parsed.file.complete);
            let program = program.map_or_else(String::new, |program| dump::program(&program));
            vec![
                ("program.txt", program),
                ("errors.txt", list(&diagnostics, &source)),
            ]
        }
    }
}

fn format_case(case: &Case) -> Outcome {
    let source = case.source().expect("a case of formatting is valid text");
    invariants::check_formatting(&source);
    vec![("formatted.blip", format(&parse(&source).file, &source))]
}

fn list(diagnostics: &[Diagnostic], source: &Source) -> String {
    diagnostics
        .iter()
        .map(|diagnostic| format!("{}\n", diagnostic.display(source)))
        .collect()
}

fn compare(folder: &Path, outcome: &Outcome) -> Result<(), Failed> {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differences = String::new();
    for (name, found) in outcome {
        let path = folder.join(name);
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if *found == expected {
            continue;
        }
        if !bless {
            differences += &format!(
                "{} differs\n--- expected\n{expected}--- found\n{found}",
                path.display()
            );
        } else if found.is_empty() {
            fs::remove_file(&path)?;
        } else {
            fs::write(&path, found)?;
        }
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.into())
    }
}

/// Every code has a case that shows one of its messages.
fn every_code(root: &Path) -> Result<(), Failed> {
    let all: Vec<String> = ["parse", "check"]
        .iter()
        .flat_map(|kind| folders(&root.join(kind)))
        .map(|folder| fs::read_to_string(folder.join("errors.txt")).unwrap_or_default())
        .collect();
    let missing = codes::ALL.iter().map(|(code, _)| code.to_string());
    let missing: Vec<String> = missing
        .filter(|code| !all.iter().any(|text| text.contains(&format!("[{code}]"))))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("no case shows {}", missing.join(", ")).into())
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).expect("the folder of the cases can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
