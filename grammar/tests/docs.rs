//! The documentation of the language is up to date: its examples are parsed, checked and formatted,
//! and its generated parts are compared. `BLESS=1` rewrites the generated parts.

mod support;

use std::fs;
use std::path::PathBuf;

use blip_grammar::{Source, check, codes, format, parse};

use support::{invariants, toy};

fn document(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", name]
        .iter()
        .collect()
}

/// A fenced code block.
struct Block {
    /// The info string: `blip` or `blip error`.
    words: String,
    /// The line of its opening fence.
    line: usize,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(words)) => {
                open = Some(Block {
                    words: words.to_owned(),
                    line: at + 1,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

/// Every ```blip block is in standard layout and checks; one marked ```blip error is followed by a
/// block with its errors.
#[test]
fn examples_in_the_language_reference_are_right() {
    let text = fs::read_to_string(document("language.md")).expect("the reference can be read");
    let blocks = blocks(&text);
    let mut count = 0;
    for (at, block) in blocks
        .iter()
        .enumerate()
        .filter(|(_, block)| block.words.starts_with("blip"))
    {
        count += 1;
        let place = format!("language.md:{}", block.line);
        let source =
            Source::new("example.blip", block.text.clone()).expect("an example is valid text");
        invariants::check_invariants(source.text());
        let parsed = parse(&source);
        let checked = check(&parsed.file, &source, &toy::signatures(), &[]);
        let mut diagnostics = [parsed.diagnostics, checked.diagnostics].concat();
        diagnostics.sort_by_key(|diagnostic| diagnostic.span);
        if block.words == "blip error" {
            let expected = blocks.get(at + 1).map_or("", |block| block.text.as_str());
            let found: String = diagnostics
                .iter()
                .map(|diagnostic| format!("{}\n", diagnostic.display(&source)))
                .collect();
            assert_eq!(found, expected, "{place}");
            continue;
        }
        let errors: Vec<String> = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .map(|diagnostic| diagnostic.display(&source).to_string())
            .collect();
        assert!(errors.is_empty(), "{place}\n{}", errors.join("\n"));
        assert_eq!(
            format(&parsed.file, &source),
            block.text,
            "{place} is not in standard layout"
        );
    }
    assert!(count > 8, "the reference shows the language");
    assert!(
        text.lines().count() <= 300,
        "the reference has grown beyond 300 lines"
    );
}

#[test]
fn the_list_of_diagnostics_is_up_to_date() {
    let mut text = "# Diagnostics\n\n\
        Every message about a workflow has a code. Errors (E) keep it from running, \
        warnings (W) do not.\n\
        This file is generated from `grammar/src/codes.rs` by \
        `BLESS=1 cargo test -p blip-grammar`.\n"
        .to_owned();
    for (code, _) in codes::ALL {
        let explanation = codes::explanation(&code.to_string()).expect("every code is explained");
        text += &format!("\n## {code}\n\n{explanation}\n");
    }
    let path = document("diagnostics.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).expect("the document can be written");
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        text,
        "run with BLESS=1"
    );
}

#[test]
fn codes_are_found_in_either_case() {
    assert_eq!(codes::explanation("e020"), codes::explanation("E020"));
    assert_eq!(codes::explanation("E999"), None);
}
