//! Every system call that changes the disk fails once, in every way it can: the cache stays valid,
//! and the next run gives the right bytes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::{EngineError, Outcome, RunOptions};

use crate::scene::{self, SCENE, assert_valid, outcome};
use crate::world::World;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The call fails with this error.
    Error(i32),
    /// A write writes half of its bytes and reports that.
    Short,
    /// The first half of the bytes is written, and then the disk is full.
    Full,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EINTR: i32 = 4;

/// Fails one call, or all calls from one on.
struct Faulty {
    fault: Fault,
    at: u64,
    sticky: bool,
    calls: AtomicU64,
    fired: AtomicU64,
}

impl Hook for Faulty {
    fn before(&self, call: Syscall, _: &Path) -> FaultAction {
        let write = call == Syscall::Write;
        if matches!(self.fault, Fault::Short | Fault::Full) && !write {
            return FaultAction::SkipSync;
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let full = self.fault == Fault::Full && number == self.at + 1;
        if number < self.at || (number > self.at && !self.sticky && !full) {
            return FaultAction::SkipSync;
        }
        self.fired.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Error(error) => FaultAction::Fail(io::Error::from_raw_os_error(error)),
            Fault::Full if number > self.at => {
                FaultAction::Fail(io::Error::from_raw_os_error(ENOSPC))
            }
            Fault::Short | Fault::Full => FaultAction::ShortWrite,
        }
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

/// Fails call 1, then call 2, and so on, until a run makes fewer calls. Sweeps that resemble
/// another one fail only every `step`th call, except in `make soak`.
fn sweep(fault: Fault, sticky: bool, step: usize) {
    let expected = scene::undisturbed();
    for at in (1..).step_by(if is_soak() { 1 } else { step }) {
        assert!(at < 2000, "a run makes fewer calls");
        let world = scene::world();
        let hook = Arc::new(Faulty {
            fault,
            at,
            sticky,
            calls: 0.into(),
            fired: 0.into(),
        });
        let engine = world.engine().with_disk(Disk::with_hook(hook.clone()));
        let what = format!("{fault:?}, sticky {sticky}, call {at}");
        match engine.run(&world.workflow(SCENE), &RunOptions::default(), &mut []) {
            Ok(summary) if summary.outcome == Outcome::Done => {
                assert_eq!(outcome(&world, &summary), expected, "{what}");
            }
            Ok(_) => assert!(!is_harmless(fault, sticky), "{what}"),
            Err(EngineError::Cache(_) | EngineError::Log(_)) => {
                assert!(!is_harmless(fault, sticky), "{what}")
            }
            Err(error) => panic!("{what}: {error}"),
        }
        assert_valid(&world, &expected, &what);
        if hook.fired.load(Ordering::SeqCst) == 0 {
            assert!(at > 40, "the scene makes more calls than {at}");
            return;
        }
    }
}

fn is_soak() -> bool {
    std::env::var_os("BLIP_SOAK").is_some()
}

/// Whether a run must succeed in spite of the fault.
fn is_harmless(fault: Fault, sticky: bool) -> bool {
    matches!(
        (fault, sticky),
        (Fault::Short, _) | (Fault::Error(EINTR), false)
    )
}

#[test]
fn a_call_fails_with_eio() {
    sweep(Fault::Error(EIO), false, 1);
}

#[test]
fn all_calls_fail_with_eio_from_one_on() {
    sweep(Fault::Error(EIO), true, 1);
}

#[test]
fn a_call_finds_the_disk_full() {
    sweep(Fault::Error(ENOSPC), false, 3);
}

#[test]
fn all_calls_find_the_disk_full_from_one_on() {
    sweep(Fault::Error(ENOSPC), true, 3);
}

#[test]
fn a_call_is_interrupted() {
    sweep(Fault::Error(EINTR), false, 5);
}

#[test]
fn all_calls_are_interrupted_from_one_on() {
    sweep(Fault::Error(EINTR), true, 5);
}

#[test]
fn a_write_is_short() {
    sweep(Fault::Short, false, 1);
}

#[test]
fn all_writes_are_short_from_one_on() {
    sweep(Fault::Short, true, 5);
}

#[test]
fn the_disk_is_full_in_the_middle_of_a_write() {
    sweep(Fault::Full, false, 1);
}

/// A disk that has room for this many writes.
struct SmallDisk(AtomicU64);

impl Hook for SmallDisk {
    fn before(&self, call: Syscall, _: &Path) -> FaultAction {
        let take_one = |room: u64| room.checked_sub(1);
        let has_room = call != Syscall::Write
            || self
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one)
                .is_ok();
        if has_room {
            FaultAction::SkipSync
        } else {
            FaultAction::Fail(io::Error::from_raw_os_error(ENOSPC))
        }
    }

    fn after(&self, _: Syscall, _: &Path) {}
}

#[test]
fn a_full_disk_is_reported_and_a_later_run_with_room_succeeds() {
    let world: World = scene::world();
    let disk = Disk::with_hook(Arc::new(SmallDisk(20.into())));
    let summary = scene::run(&world, disk);
    assert_eq!(summary.outcome, Outcome::Failed);
    let error = summary
        .stages
        .iter()
        .find_map(|end| end.error.clone())
        .unwrap();
    let folder = world.config.cache.join("tmp").display().to_string();
    assert!(
        error.what.starts_with(&format!("could not write {folder}")),
        "{}",
        error.what
    );
    assert!(
        error
            .what
            .ends_with(": No space left on device (os error 28)"),
        "{}",
        error.what
    );
    assert_eq!(
        error.help,
        "the disk is full: free some space and run again; finished results are kept"
    );
    assert_valid(&world, &scene::undisturbed(), "room again");
}
