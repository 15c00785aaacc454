//! Parses, checks and formats arbitrary bytes: the invariants of every text hold, and nothing
//! panics or hangs.

#![no_main]

use blip_grammar::Source;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

fuzz_target!(|bytes: &[u8]| {
    match Source::from_bytes("any.blip", bytes.to_vec()) {
        Ok(source) => drop(support::invariants::check_invariants(source.text())),
        Err(diagnostic) => assert!(diagnostic.help.is_some(), "{diagnostic} has no help"),
    }
});
