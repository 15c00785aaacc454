//! The overhead of the engine beside its peers, in one table: `make bench-engine`.
//!
//! Every measurement is a process of its own, from its start to its exit, as a user would wait for
//! it. Stages are trivial (a few bytes are stored; the peers `touch` a file), so that only the
//! engine is measured. Cold is a first run, no-op the same again, changed a run after the last
//! stage was edited. A peer that is not installed is left out and named.

mod blip;
mod peers;
mod table;

use std::process::ExitCode;

use self::table::Table;

/// Numbers of stages that are measured without `--full`, and with it.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
const FULL: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Items of the map, without and with `--full`.
const ITEMS: [usize; 2] = [100_000, 1_000_000];

/// How often each engine is run with nothing to do; the fastest counts.
pub(crate) const NOOP_RUNS: usize = 7;

/// How stages depend on each other.
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
        return blip::child(&args);
    }
    let full = args.iter().any(|arg| arg == "--full");
    let without_peers = args.iter().any(|arg| arg == "--alone");
    let sizes: &[usize] = if full { &FULL } else { &SIZES };
    let mut table = Table::default();
    for shape in [Shape::Chain, Shape::Fan] {
        for &size in sizes {
            table.add(blip::measure_stages(shape, size));
            if !without_peers {
                for row in peers::measure_all(shape, size) {
                    table.add(row);
                }
            }
        }
    }
    let item_counts = if full { &ITEMS[..] } else { &ITEMS[..1] };
    for &items in item_counts {
        for row in blip::measure_map(items) {
            table.add(row);
        }
    }
    println!("{table}");
    let missing = peers::missing();
    if !without_peers && !missing.is_empty() {
        println!("not installed, left out: {}", missing.join(", "));
    }
    ExitCode::SUCCESS
}
