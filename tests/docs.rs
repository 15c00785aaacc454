//! Examples in the documentation are right: they are checked with the ops that the program has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use blip_grammar::{Diagnostic, Signatures, Source, check, format, parse};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository, by its path.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "workflows", "tests/parity"];
    let mut documents: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    documents.sort();
    documents
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
fn examples_check_with_the_real_ops() {
    let signatures = blip_ops::all().signatures().unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for path in documents() {
        let document = fs::read_to_string(&path).unwrap();
        let blocks = blocks(&document);
        for (at, block) in blocks.iter().enumerate() {
            let found = match block.words.as_str() {
                "blip" => check_example(block, &signatures),
                "blip error" => check_error(block, blocks.get(at + 1), &signatures),
                _ => continue,
            };
            count += 1;
            if let Err(found) = found {
                wrong.push(format!("{}:{}\n{found}", path.display(), block.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 8, "{count}: the reference shows the language");
}

/// The errors of an example, or the example as it should be.
fn check_example(block: &Block, signatures: &Signatures) -> Result<(), String> {
    let (source, diagnostics) = diagnostics(block, signatures);
    let errors: Vec<String> = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .map(|diagnostic| diagnostic.display(&source).to_string())
        .collect();
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    let formatted = format(&parse(&source).file, &source);
    (formatted == block.text).then_some(()).ok_or(formatted)
}

/// What is said about an example, where the block after it says something else.
fn check_error(block: &Block, next: Option<&Block>, signatures: &Signatures) -> Result<(), String> {
    let (source, diagnostics) = diagnostics(block, signatures);
    let found: String = diagnostics
        .iter()
        .map(|diagnostic| format!("{}\n", diagnostic.display(&source)))
        .collect();
    let is_expected = next.is_some_and(|next| next.text == found);
    is_expected.then_some(()).ok_or(found)
}

/// What is said about an example, in the order of the text.
fn diagnostics(block: &Block, signatures: &Signatures) -> (Source, Vec<Diagnostic>) {
    let source = Source::new("example.blip", block.text.clone()).unwrap();
    let parsed = parse(&source);
    let checked = check(&parsed.file, &source, signatures, &[]);
    let mut diagnostics = [parsed.diagnostics, checked.diagnostics].concat();
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    (source, diagnostics)
}

#[test]
fn the_language_reference_is_short() {
    let text = fs::read_to_string(root().join("docs/language.md")).unwrap();
    assert!(
        text.lines().count() <= 300,
        "the reference has grown beyond 300 lines"
    );
}
