//! The house rules that a program can check.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longer files are two files; unit tests at the end do not count.
const LINES_MAX: usize = 600;

/// Every Rust file of the workspace with its path from the root, in order.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in [
        "cli", "engine", "grammar", "ops", "scripts", "tests", "fuzz",
    ] {
        gather(&root.join(folder), &mut paths);
    }
    paths.sort();
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
    let sources: Vec<(String, String)> = paths
        .iter()
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(
        sources.len() > 100,
        "only {} files were found",
        sources.len()
    );
    sources
}

fn gather(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            gather(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Lines of the code itself: no comments, and nothing of the unit tests at a file's end.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    before_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn check(rule: &str, broken: impl Fn(&str, &str) -> bool) {
    let offenders: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| broken(path, text))
        .map(|(path, _)| path)
        .collect();
    assert!(offenders.is_empty(), "{rule}: {offenders:#?}");
}

#[test]
fn every_file_says_what_it_is() {
    check("a file begins with `//!`", |_, text| {
        !text.starts_with("//! ")
    });
}

#[test]
fn no_file_is_too_long() {
    check("a file has at most 600 lines", |_, text| {
        text.lines().count() > LINES_MAX
    });
}

#[test]
fn only_the_command_line_prints() {
    let words = [
        "println!(",
        "eprintln!(",
        "print!(",
        "eprint!(",
        "stdout()",
        "stderr()",
    ];
    check("only cli prints", |path, text| {
        // A child process talks to its parent by its standard output, a build script to cargo.
        let may = path.starts_with("cli/")
            || path == "engine/src/isolate.rs"
            || path.contains("/tests/")
            || path.contains("/examples/")
            || path.contains("/benches/");
        !may && !path.starts_with("tests/")
            && !path.ends_with("/build.rs")
            && code(text).any(|line| words.iter().any(|word| line.contains(word)))
    });
}

#[test]
fn only_one_file_names_sled() {
    check("only sled_index.rs names sled", |path, text| {
        path != "engine/src/cache/sled_index.rs"
            && !path.starts_with("tests/")
            && code(text).any(|line| line.contains("sled::"))
    });
}

#[test]
fn only_ops_name_tch() {
    check("only ops/ names tch", |path, text| {
        !path.starts_with("ops/")
            && !path.starts_with("tests/")
            && code(text).any(|line| {
                line.contains("use tch::") || line.contains(" tch::") || line.contains("(tch::")
            })
    });
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "XX".to_owned() + "X",
        "HA".to_owned() + "CK",
    ];
    check("no leftover marks", |_, text| {
        marks.iter().any(|mark| text.contains(mark.as_str()))
    });
}

#[test]
fn lints_are_expected_not_allowed_and_no_test_is_switched_off() {
    let words = [
        "#[al".to_owned() + "low(",
        "#![al".to_owned() + "low(",
        "#[ig".to_owned() + "nore",
    ];
    check(
        "#[expect(lint, reason)] instead, and tests that run",
        |_, text| {
            code(text).any(|line| {
                words
                    .iter()
                    .any(|word| line.trim_start().starts_with(word.as_str()))
            })
        },
    );
}

#[test]
fn modules_are_named_for_what_they_hold() {
    let names = [
        "utils.rs",
        "util.rs",
        "helpers.rs",
        "common.rs",
        "misc.rs",
        "mod.rs",
    ];
    check(
        "foo.rs + foo/, and a name that says something",
        |path, _| {
            // Cargo takes every file directly in tests/ for a test: what tests share can only be a
            // folder's mod.rs.
            path != "grammar/tests/support/mod.rs"
                && names
                    .iter()
                    .any(|name| path.rsplit('/').next() == Some(*name))
        },
    );
}
