//! How much memory a child uses, and when that is too much.
//!
//! A limit of the operating system would be the wrong one: on address space it stops libtorch,
//! which reserves far more than it uses, and one that malloc runs into ends in an abort without a
//! message. So the parent polls.

use std::fs;

use crate::op::OpError;

/// The bytes of main memory that a process has for itself: what it shares with others, or maps from
/// files, the system can reclaim. Nothing where the system does not say.
pub(super) fn private_bytes(process: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    // Counted in pages: "size resident shared ...".
    let mut pages = statm
        .split_whitespace()
        .skip(1)
        .map_while(|number| number.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

/// The error of a stage that uses more than its `@memory`.
pub(super) fn memory_error(used: u64, limit: u64) -> Option<OpError> {
    if used <= limit {
        return None;
    }
    let used = blip_grammar::size_text(used.next_multiple_of(1 << 20));
    let limit = blip_grammar::size_text(limit);
    Some(OpError::failed(
        format!("it used {used} of memory, more than its @memory({limit})"),
        "raise @memory, or give it less work at a time",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_some_and_what_is_written_to_counts() {
        let before = private_bytes(std::process::id()).unwrap();
        // Without the black box the optimizer would leave the allocation out.
        let held = std::hint::black_box(vec![1_u8; 256 << 20]);
        let after = private_bytes(std::process::id()).unwrap();
        // Half of it, since other tests allocate and free meanwhile.
        assert!(after >= before + (128 << 20), "{before} {after}");
        drop(held);
        assert_eq!(private_bytes(u32::MAX), None);
    }

    #[test]
    fn the_limit_itself_is_fine() {
        assert!(memory_error(1 << 20, 1 << 20).is_none());
        let error = memory_error((1 << 30) + 1, 1 << 30).unwrap();
        assert_eq!(
            error.to_string(),
            "it used 1025MiB of memory, more than its @memory(1GiB)"
        );
        assert_eq!(
            error.help(),
            "raise @memory, or give it less work at a time"
        );
    }
}
