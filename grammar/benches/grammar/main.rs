//! What the language costs, beside a peer and a floor, in one table: `make bench-grammar`.
//!
//! Generated workflows of 100, 10,000 and 100,000 statements are parsed, checked and formatted, in
//! one thread. The floor is pest's own parse of the same text, which makes no tree and stops at the
//! first fault. The peer is the `toml` crate on a file of the same size.

extern crate alloc; // what pest_derive writes without `std` names it

#[path = "../../tests/support/toy.rs"]
mod toy;
mod turns;
mod workflows;

use blip_grammar::{Signatures, Source, check, format, parse};
use pest::Parser as _;

use self::turns::{Timed, Work, compare};

mod rules {
    #[derive(Debug, pest_derive::Parser)]
    #[grammar = "../grammar.pest"]
    pub(super) struct Syntax;
}

use self::rules::{Rule, Syntax};

/// Numbers of statements as people write them. A file has at most 1 MiB, so more of them are short.
const SIZES: [usize; 2] = [100, 10_000];
const SHORT: usize = 100_000;

#[expect(clippy::print_stdout, reason = "a benchmark shows its table")]
fn main() {
    println!("one thread; medians of rounds in turns, with the lowest and the highest\n");
    let signatures = toy::signatures();
    for size in SIZES {
        measure("", size, workflows::written(size), &signatures);
    }
    let text = workflows::short(SHORT);
    measure("short ", SHORT, text, &workflows::short_signatures());
}

/// The three works on one text.
fn measure(kind: &str, statements: usize, text: String, signatures: &Signatures) {
    let source = Source::new("bench.blip", text).expect("a text of bearable size");
    let text = source.text();
    let megabytes = text.len() as f64 / 1e6;
    let bytes = [(megabytes, "MB")];
    let all = [(megabytes, "MB"), (statements as f64, "statements")];
    let parsed = parse(&source);
    let checked = check(&parsed.file, &source, signatures, &[]);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    assert!(checked.program.is_some(), "{:?}", checked.diagnostics);
    assert_eq!(parsed.file.statements.len(), statements);
    let toml = workflows::toml(text.len());
    let work = |name: &str| Work {
        title: format!("{name}: {statements} {kind}statements, {megabytes:.3} MB"),
        items: (1.0, "file"),
    };
    let pest = || Timed::new("pest alone", &bytes, || pest_alone(text));
    let ways = vec![
        Timed::new("blip", &all, || parse(&source)),
        pest(),
        Timed::new("toml, as many bytes", &bytes, || {
            toml.parse::<toml::Table>().expect("the peer's language")
        }),
    ];
    compare(&work("parse"), ways);
    let ways = vec![
        Timed::new("blip", &all, || {
            check(&parsed.file, &source, signatures, &[])
        }),
        pest(),
    ];
    compare(&work("check"), ways);
    let ways = vec![
        Timed::new("blip", &all, || format(&parsed.file, &source)),
        pest(),
    ];
    compare(&work("format"), ways);
}

/// The tokens that the grammar gives for the whole text.
fn pest_alone(text: &str) -> usize {
    let pairs = Syntax::parse(Rule::statements, text).expect("a right workflow");
    pairs.len()
}
