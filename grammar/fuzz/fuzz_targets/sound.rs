//! Any bytes at all: parsing, checking and formatting them does what it promises for every text,
//! and never panics or hangs.

#![no_main]

use blip_grammar::Source;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

fuzz_target!(|bytes: &[u8]| {
    match Source::from_bytes("any.blip", bytes.to_vec()) {
        Ok(source) => drop(support::sound::sound(source.text())),
        Err(diagnostic) => assert!(diagnostic.help.is_some(), "{diagnostic} says what to do"),
    }
});
