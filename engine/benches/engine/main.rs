//! What the engine itself costs, beside its peers, in one table: `make bench-engine`.
//!
//! Every measurement is a process of its own, from its start to its end, as a user would wait for
//! it. Stages are trivial (a few bytes are stored; the peers `touch` a file), so what shows is the
//! engine. Cold is a first run, no-op the same again, changed a run after the last stage was
//! edited. A peer that is not installed is left out and named.

mod ours;
mod peers;
mod table;

use std::process::ExitCode;

use self::table::Table;

/// Numbers of stages that are measured without `--full`, and with it.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
const FULL: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Items of the map, without and with `--full`.
const ITEMS: [usize; 2] = [100_000, 1_000_000];

/// How often each engine is run with nothing to do; the quickest counts.
pub(crate) const NOOPS: usize = 7;

/// How stages hang together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each takes the result of the one before.
    Chain,
    /// All take the result of the first.
    Fan,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::Chain => "chain",
            Shape::Fan => "fan",
        }
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark shows its table")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if args.first().is_some_and(|arg| arg == "child") {
        return ours::child(&args);
    }
    let full = args.iter().any(|arg| arg == "--full");
    let alone = args.iter().any(|arg| arg == "--alone");
    let sizes: &[usize] = if full { &FULL } else { &SIZES };
    let mut table = Table::default();
    for shape in [Shape::Chain, Shape::Fan] {
        for &size in sizes {
            table.add(ours::stages(shape, size));
            if !alone {
                peers::all(shape, size)
                    .into_iter()
                    .for_each(|row| table.add(row));
            }
        }
    }
    for &items in if full { &ITEMS[..] } else { &ITEMS[..1] } {
        ours::map(items).into_iter().for_each(|row| table.add(row));
    }
    println!("{table}");
    let missing = peers::missing();
    if !alone && !missing.is_empty() {
        println!("not installed, left out: {}", missing.join(", "));
    }
    ExitCode::SUCCESS
}
