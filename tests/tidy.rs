//! House rules that a program can check.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "tidy/scanner.rs"]
mod scanner;
#[path = "tidy/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use self::scanner::{Kind, scan};
use self::words::BANNED;

const MAX_LINES: usize = 600;
const MAX_COLUMNS: usize = 100;
/// Of all lines, at most one in this many is longer than [`MAX_COLUMNS`]: 0.5 %.
const LINES_PER_LONG_LINE: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the workspace as (path from the root, content), sorted.
fn sources() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in [
        "cli", "engine", "grammar", "ops", "scripts", "tests", "fuzz",
    ] {
        collect_files(&root().join(folder), "rs", &mut paths);
    }
    let sources = read_all(paths);
    let files = sources.len();
    assert!(files > 100, "only {files} files were found");
    sources
}

/// Every Markdown file of the workspace, likewise.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    for folder in ["docs", "workflows", "tests"] {
        collect_files(&root().join(folder), "md", &mut paths);
    }
    read_all(paths)
}

fn read_all(mut paths: Vec<PathBuf>) -> Vec<(String, String)> {
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        files.push((name, fs::read_to_string(&path).unwrap()));
    }
    files
}

fn collect_files(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect_files(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
}

/// A file without the unit tests at its end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

/// Lines of code without comments and unit tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    without_tests(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether a file is only compiled for tests, benchmarks or examples.
fn is_test_code(path: &str) -> bool {
    path.starts_with("tests/")
        || ["/tests/", "/benches/", "/examples/"]
            .iter()
            .any(|folder| path.contains(folder))
}

/// Fails with the paths of all files that break a rule.
fn check(rule: &str, is_broken: impl Fn(&str, &str) -> bool) {
    let offenders: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| is_broken(path, text))
        .map(|(path, _)| path)
        .collect();
    assert!(offenders.is_empty(), "{rule}: {offenders:#?}");
}

#[test]
fn every_file_has_a_module_comment() {
    check("a file starts with `//!`", |_, text| {
        !text.starts_with("//! ")
    });
}

#[test]
fn no_file_is_too_long() {
    check("a file has at most 600 lines", |_, text| {
        text.lines().count() > MAX_LINES
    });
}

#[test]
fn few_lines_are_long() {
    let sources = sources();
    let lines = sources.iter().flat_map(|(_, text)| text.lines());
    let all = lines.clone().count();
    let long = lines.filter(|line| is_long(line)).count();
    assert!(
        long * LINES_PER_LONG_LINE < all,
        "{long} of {all} lines have more than {MAX_COLUMNS} columns"
    );
}

/// rustfmt leaves a long string literal as it is. Anything else that is too long is in a macro or a
/// comment, where rustfmt does not break lines.
#[test]
fn only_string_literals_are_long() {
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        let blanked: String = scan(&text)
            .iter()
            .map(|piece| match piece.kind {
                Kind::Literal => line_breaks(piece.text),
                _ => piece.text.to_owned(),
            })
            .collect();
        for (number, line) in blanked.lines().enumerate() {
            if is_long(line) && !line.contains("://") {
                offenders.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(
        offenders.is_empty(),
        "break these lines at {MAX_COLUMNS} columns: {offenders:#?}"
    );
}

fn is_long(line: &str) -> bool {
    line.chars().count() > MAX_COLUMNS
}

fn line_breaks(text: &str) -> String {
    text.chars().filter(|c| *c == '\n').collect()
}

#[test]
fn no_doc_comment_only_repeats_a_name() {
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        // There, doc comments are the help texts of options.
        if !path.starts_with("cli/args") {
            offenders.extend(repeated_names(&path, &text));
        }
    }
    assert!(
        offenders.is_empty(),
        "say something that the name does not, or delete the comment: {offenders:#?}"
    );
}

/// Doc comments of one line that consist of the words of the name below them.
fn repeated_names(path: &str, text: &str) -> Vec<String> {
    let name = Regex::new(
        r"(?x)^(pub(\([^)]*\))?\s+)?
        ((async|const|enum|extern|fn|mod|static|struct|trait|type|unsafe)\s+)*
        (?<name>\w+)",
    )
    .unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let mut repeated = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(doc) = line.strip_prefix("/// ") else {
            continue;
        };
        let neighbors = [number.checked_sub(1), Some(number + 1)];
        let is_single = neighbors
            .iter()
            .filter_map(|neighbor| lines.get((*neighbor)?))
            .all(|line| !line.starts_with("///"));
        let item = lines[number + 1..]
            .iter()
            .find(|line| !line.starts_with("#["))
            .and_then(|line| name.captures(line));
        let Some(item) = item.filter(|_| is_single) else {
            continue;
        };
        let words = content_words(doc);
        if !words.is_empty() && words.is_subset(&name_words(&item["name"])) {
            repeated.push(format!("{path}:{}: {doc}", number + 1));
        }
    }
    repeated
}

/// The words of a sentence that carry meaning, as [`stem`]s.
fn content_words(sentence: &str) -> BTreeSet<String> {
    const STOP_WORDS: [&str; 12] = [
        "a", "an", "the", "its", "it", "this", "that", "of", "is", "for", "to", "whether",
    ];
    sentence
        .split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty() && !STOP_WORDS.contains(&word.as_str()))
        .map(|word| stem(&word))
        .collect()
}

/// The words of an identifier in snake case or camel case, as [`stem`]s.
fn name_words(name: &str) -> BTreeSet<String> {
    let mut spaced = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            spaced.push(' ');
        }
        spaced.push(if c == '_' { ' ' } else { c });
    }
    spaced
        .split_whitespace()
        .map(|word| stem(&word.to_lowercase()))
        .collect()
}

/// A word without the ending of a plural.
fn stem(word: &str) -> String {
    word.strip_suffix('s').unwrap_or(word).to_owned()
}

#[test]
fn a_doc_comment_that_repeats_a_name_is_found() {
    let found = |text: &str| repeated_names("x.rs", text).len();
    assert_eq!(found("/// The stages.\npub(crate) stages: Vec<Stage>,"), 1);
    assert_eq!(
        found("/// A lock file.\n#[derive(Debug)]\nstruct LockFile;"),
        1
    );
    assert_eq!(
        found("/// The stages in topological order.\nstages: u8,"),
        0
    );
    assert_eq!(found("/// The stages.\n///\n/// Sorted.\nstages: u8,"), 0);
}

#[test]
fn standard_terms_are_used() {
    let banned: Vec<(Regex, &str)> = BANNED
        .iter()
        .map(|(pattern, standard)| (Regex::new(&format!(r"\b({pattern})\b")).unwrap(), *standard))
        .collect();
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        if is_test_code(&path) {
            continue;
        }
        for (line, prose) in prose_of(without_tests(&text)) {
            offenders.extend(find_banned(&banned, &format!("{path}:{line}"), &prose));
        }
    }
    for (path, text) in documents() {
        for (line, paragraph) in paragraphs(&text) {
            offenders.extend(find_banned(&banned, &format!("{path}:{line}"), &paragraph));
        }
    }
    let found = offenders.len();
    assert!(
        offenders.is_empty(),
        "use the standard term ({found}): {offenders:#?}"
    );
}

fn find_banned(banned: &[(Regex, &str)], place: &str, prose: &str) -> Vec<String> {
    let prose = without_code_spans(prose).to_lowercase();
    let mut found = Vec::new();
    for (pattern, standard) in banned {
        if let Some(word) = pattern.find(&prose) {
            found.push(format!("{place}: `{}`: {standard}", word.as_str()));
        }
    }
    found
}

/// Text without what stands in backticks: names in code and on disk.
fn without_code_spans(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("_")
}

/// Comments and messages with the numbers of their first lines. Adjacent line comments are joined,
/// so that a phrase is found across a line break.
fn prose_of(text: &str) -> Vec<(usize, String)> {
    let mut prose: Vec<(usize, String)> = Vec::new();
    let mut line = 1;
    let mut in_comment = false;
    for piece in scan(text) {
        match piece.kind {
            Kind::Comment => {
                let comment = piece.text.trim_start_matches(['/', '!', ' ']);
                match prose.last_mut().filter(|_| in_comment) {
                    Some((_, joined)) => {
                        joined.push(' ');
                        joined.push_str(comment);
                    }
                    None => prose.push((line, comment.to_owned())),
                }
                in_comment = true;
            }
            Kind::Literal => {
                // A literal of one word is a name: of a file, of a field in JSON.
                let words: Vec<&str> = piece.text.split_whitespace().collect();
                if words.len() > 1 {
                    prose.push((line, words.join(" ").replace(" \\ ", " ")));
                }
                in_comment = false;
            }
            Kind::Code => in_comment = in_comment && piece.text.trim().is_empty(),
        }
        line += piece.text.matches('\n').count();
    }
    prose
}

/// Paragraphs of Markdown outside of code blocks, with the numbers of their first lines.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    let mut in_block = false;
    let mut in_paragraph = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            in_block = !in_block;
            in_paragraph = false;
        } else if in_block || line.trim().is_empty() {
            in_paragraph = false;
        } else if let Some((_, paragraph)) = paragraphs.last_mut().filter(|_| in_paragraph) {
            paragraph.push(' ');
            paragraph.push_str(line);
        } else {
            paragraphs.push((number + 1, line.to_owned()));
            in_paragraph = true;
        }
    }
    paragraphs
}

#[test]
fn banned_words_are_found_in_comments_and_messages_only() {
    let text = "/// It is set\n/// aside, see `anew`.\nlet mend = \"quarantined\";\nlet a = \"mend \
                it\";\n";
    assert_eq!(
        prose_of(text),
        [
            (1, "It is set aside, see `anew`.".to_owned()),
            (4, "\"mend it\"".to_owned()),
        ]
    );
    assert_eq!(without_code_spans("see `anew` or not"), "see _ or not");
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
        // A child process talks to its parent on standard output, a build script to cargo.
        let may_print = path.starts_with("cli/")
            || path.starts_with("engine/src/isolate")
            || path.ends_with("/build.rs")
            || is_test_code(path);
        !may_print && code(text).any(|line| words.iter().any(|word| line.contains(word)))
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

// Below, the patterns are concatenated so that this file does not contain them.

#[test]
fn there_are_no_leftover_marks() {
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
fn lints_are_expected_not_allowed_and_no_test_is_ignored() {
    let attributes = [
        "#[al".to_owned() + "low(",
        "#![al".to_owned() + "low(",
        "#[ig".to_owned() + "nore",
    ];
    check(
        "#[expect(lint, reason)] instead, and tests that run",
        |_, text| {
            code(text).any(|line| {
                attributes
                    .iter()
                    .any(|attribute| line.trim_start().starts_with(attribute.as_str()))
            })
        },
    );
}

#[test]
fn modules_are_named_after_their_content() {
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
            let file = path.rsplit('/').next().unwrap_or(path);
            path != "grammar/tests/support/mod.rs" && names.contains(&file)
        },
    );
}
