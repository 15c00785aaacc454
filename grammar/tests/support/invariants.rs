//! Invariants of every text, valid or not.

use blip_grammar::ast::{File, Statement};
use blip_grammar::{Diagnostic, Source, check, format, parse};

use super::{dump, toy};

/// Parses, checks and formats a text, asserts the invariants, and returns all diagnostics.
pub(crate) fn check_invariants(text: &str) -> Vec<Diagnostic> {
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
        assert!(diagnostic.help.is_some(), "{diagnostic} has no help");
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
        "there is a program if and only if there are no errors"
    );
    assert!(
        checked
            .program
            .is_none_or(|program| !dump::program(&program).is_empty())
    );
    check_statements_alone(&parsed.file, &source);
    check_formatting(&source);
    [parsed.diagnostics, checked.diagnostics].concat()
}

/// A statement parsed in a batch with others has the same tree as one parsed alone.
fn check_statements_alone(file: &File, source: &Source) {
    for statement in &file.statements {
        let alone = Source::new("alone.blip", source.slice(statement.span))
            .expect("a part of a valid text is valid");
        let found = tree_of(&parse(&alone).file.statements, &alone);
        assert_eq!(
            tree_of(std::slice::from_ref(statement), source),
            found,
            "{}",
            alone.text()
        );
    }
}

fn tree_of(statements: &[Statement], source: &Source) -> String {
    let file = File {
        statements: statements.to_vec(),
        ..File::default()
    };
    dump::tree(&file, source)
}

/// Formatting is lossless (same tree, same comments) and idempotent.
pub(crate) fn check_formatting(source: &Source) {
    let parsed = parse(source);
    let formatted = format(&parsed.file, source);
    if !parsed.file.complete {
        assert_eq!(formatted, source.text());
        return;
    }
    let again = Source::new("formatted.blip", formatted.clone()).expect("formatted text is valid");
    let reparsed = parse(&again);
    assert_eq!(
        dump::tree(&parsed.file, source),
        dump::tree(&reparsed.file, &again),
        "{formatted}"
    );
    assert_eq!(formatted, format(&reparsed.file, &again));
}
