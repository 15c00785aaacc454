//! What holds for every text, whether people or machines wrote it.

use blip_grammar::ast::{File, Statement};
use blip_grammar::{Diagnostic, Source, check, format, parse};

use super::{dump, toy};

/// Parses, checks and formats a text, asserts what must hold whatever it is, and hands back what is
/// wrong with it.
pub(crate) fn sound(text: &str) -> Vec<Diagnostic> {
    let source = match Source::new("any.blip", text) {
        Ok(source) => source,
        Err(diagnostic) => return vec![*diagnostic],
    };
    let parsed = parse(&source);
    let checked = check(&parsed.file, &source, &toy::signatures(), &[]);
    for diagnostic in parsed.diagnostics.iter().chain(&checked.diagnostics) {
        let notes = diagnostic.notes.iter().map(|(span, _)| span);
        for span in diagnostic.span.iter().chain(notes) {
            let (start, end) = (span.start(), span.end());
            assert!(
                start <= end && source.text().get(start..end).is_some(),
                "{diagnostic} at {start}..{end}"
            );
        }
        assert!(diagnostic.help.is_some(), "{diagnostic} says what to do");
        assert!(!diagnostic.display(&source).to_string().is_empty());
    }
    assert_eq!(parsed.file.complete, parsed.diagnostics.is_empty());
    let errors = checked
        .diagnostics
        .iter()
        .any(|diagnostic| diagnostic.is_error());
    assert_eq!(
        checked.program.is_none(),
        errors,
        "a program without errors, and none with"
    );
    assert!(
        checked
            .program
            .is_none_or(|program| !dump::program(&program).is_empty())
    );
    stand_alone(&parsed.file, &source);
    formats(&source);
    [parsed.diagnostics, checked.diagnostics].concat()
}

/// A statement is among others what it is by itself, although many are parsed together.
fn stand_alone(file: &File, source: &Source) {
    let tree = |statements: &[Statement], source: &Source| {
        dump::tree(
            &File {
                statements: statements.to_vec(),
                ..File::default()
            },
            source,
        )
    };
    for statement in &file.statements {
        let alone = Source::new("alone.blip", source.slice(statement.span))
            .expect("a part of a text is one");
        let found = tree(&parse(&alone).file.statements, &alone);
        assert_eq!(
            tree(std::slice::from_ref(statement), source),
            found,
            "{}",
            alone.text()
        );
    }
}

/// Formatting keeps the tree and the comments, and changes nothing the second time.
pub(crate) fn formats(source: &Source) {
    let parsed = parse(source);
    let formatted = format(&parsed.file, source);
    if !parsed.file.complete {
        assert_eq!(formatted, source.text());
        return;
    }
    let again =
        Source::new("formatted.blip", formatted.clone()).expect("what was formatted is text");
    let reparsed = parse(&again);
    assert_eq!(
        dump::tree(&parsed.file, source),
        dump::tree(&reparsed.file, &again),
        "{formatted}"
    );
    assert_eq!(formatted, format(&reparsed.file, &again));
}
