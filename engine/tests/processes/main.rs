//! Several processes in one cache, and processes that are killed. The binary is both the tests and
//! the processes that they start: with `BLIP_CHILD` set it does what that says and exits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod child;
mod isolation;
mod kills;
mod mounts;
mod sharing;
#[path = "../behaviour/toy.rs"]
mod toy;

/// What the toy ops count with; here the event logs of all processes are counted instead.
mod world {
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Calls;

    impl Calls {
        pub(crate) fn count(&self, _: &str) -> u64 {
            1
        }
    }
}

use std::path::PathBuf;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let last_arg = std::env::args_os().next_back().map(PathBuf::from);
    if let Some(task_file) = last_arg.filter(|arg| arg.ends_with("job.json")) {
        let ops = toy::ops(&world::Calls);
        let code = blip_engine::isolate::run_child(&ops, &task_file);
        std::process::exit(i32::from(code));
    }
    if let Some(what) = std::env::var_os("BLIP_CHILD") {
        std::process::exit(child::main(&what.to_string_lossy()));
    }
    let mounts_are_allowed = child::mounts_are_allowed();
    let trials = vec![
        trial(
            "eight_processes_run_every_stage_once",
            sharing::eight_processes_run_every_stage_once,
        ),
        trial(
            "when_the_holder_is_killed_another_takes_over",
            sharing::when_the_holder_is_killed_another_takes_over,
        ),
        trial(
            "other_stages_run_while_one_waits_for_a_lease",
            sharing::other_stages_run_while_one_waits_for_a_lease,
        ),
        trial(
            "a_run_that_does_not_wait_names_the_holder",
            sharing::a_run_that_does_not_wait_names_the_holder,
        ),
        trial(
            "exclusive_access_names_the_run_that_holds_the_cache",
            sharing::exclusive_access_names_the_run_that_holds_the_cache,
        ),
        trial(
            "a_run_waits_for_exclusive_access_to_end",
            sharing::a_run_waits_for_exclusive_access_to_end,
        ),
        trial(
            "a_hundred_thousand_units_take_little_memory",
            sharing::a_hundred_thousand_units_take_little_memory,
        ),
        trial(
            "readers_work_during_a_run",
            sharing::readers_work_during_a_run,
        ),
        trial("killed_at_any_time", kills::killed_at_any_time),
        trial(
            "killed_at_every_kind_of_moment",
            kills::killed_at_every_kind_of_moment,
        ),
        trial(
            "killed_during_verification",
            kills::killed_during_verification,
        ),
        trial("killed_during_repair", kills::killed_during_repair),
        trial("killed_during_collection", kills::killed_during_collection),
        trial(
            "a_run_that_is_killed_leaves_no_child",
            isolation::a_run_that_is_killed_leaves_no_child,
        ),
        trial(
            "a_read_only_cache_is_read",
            mounts::a_read_only_cache_is_read,
        )
        .with_ignored_flag(!mounts_are_allowed),
        trial("a_full_disk", mounts::a_full_disk).with_ignored_flag(!mounts_are_allowed),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        std::panic::catch_unwind(test).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Failed::from(text.unwrap_or("the test panicked").to_owned())
        })
    })
}
