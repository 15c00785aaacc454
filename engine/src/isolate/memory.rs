//! What a child takes of the machine's memory, and how much is too much.
//!
//! A limit of the operating system would be the wrong one: on address space it stops libtorch,
//! which reserves far more than it uses, and one that malloc runs into ends in an abort that says
//! nothing. So the parent looks.

use std::fs;

use crate::op::OpError;

/// The bytes of main memory that a process has for itself: what it shares with others, or maps from
/// files, can be given back by the system. Nothing where the system does not say.
pub(super) fn own_bytes(process: u32) -> Option<u64> {
    let pages = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut pages = pages
        .split_whitespace()
        .skip(1)
        .map_while(|number| number.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// The failure of a stage that takes more than its `@memory`.
pub(super) fn takes_too_much(own: u64, limit: u64) -> Option<OpError> {
    let took = blip_grammar::size_text(own.next_multiple_of(1 << 20));
    let what = format!(
        "it took {took} of memory, more than its @memory({})",
        blip_grammar::size_text(limit)
    );
    (own > limit).then(|| OpError::failed(what, "raise @memory, or give it less work at a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_some_and_what_is_written_to_counts() {
        let before = own_bytes(std::process::id()).unwrap();
        let held = std::hint::black_box(vec![1_u8; 256 << 20]); // an optimizer would do without it
        let after = own_bytes(std::process::id()).unwrap();
        assert!(after >= before + (128 << 20), "{before} {after}"); // other tests take and give back meanwhile
        drop(held);
        assert_eq!(own_bytes(u32::MAX), None);
    }

    #[test]
    fn the_limit_itself_is_fine() {
        assert!(takes_too_much(1 << 20, 1 << 20).is_none());
        let error = takes_too_much((1 << 30) + 1, 1 << 30).unwrap();
        assert_eq!(
            error.to_string(),
            "it took 1025MiB of memory, more than its @memory(1GiB)"
        );
        assert_eq!(
            error.help(),
            "raise @memory, or give it less work at a time"
        );
    }
}
