//! Several processes in one cache, and processes that are killed. The binary is both the tests and
//! the processes that they start: with `BLIP_CHILD` set it does what that says and ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod child;
mod isolated;
mod kills;
mod mounts;
mod together;
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

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    if let Some(job) = std::env::args_os()
        .next_back()
        .filter(|last| last.to_string_lossy().ends_with("job.json"))
    {
        let ops = toy::ops(&world::Calls);
        std::process::exit(i32::from(blip_engine::isolate::child(
            &ops,
            std::path::Path::new(&job),
        )));
    }
    if let Some(what) = std::env::var_os("BLIP_CHILD") {
        std::process::exit(child::main(&what.to_string_lossy()));
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            std::panic::catch_unwind(test).map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Failed::from(text.unwrap_or("it panicked").to_owned())
            })
        })
    };
    let trials = vec![
        trial(
            "eight_processes_run_every_stage_once",
            together::eight_processes_run_every_stage_once,
        ),
        trial(
            "when_the_holder_is_killed_another_takes_over",
            together::when_the_holder_is_killed_another_takes_over,
        ),
        trial(
            "meanwhile_other_stages_run",
            together::meanwhile_other_stages_run,
        ),
        trial(
            "who_does_not_want_to_wait_is_told_for_whom",
            together::who_does_not_want_to_wait_is_told_for_whom,
        ),
        trial(
            "who_wants_it_alone_is_told_of_a_run",
            together::who_wants_it_alone_is_told_of_a_run,
        ),
        trial(
            "a_run_waits_for_who_has_it_alone",
            together::a_run_waits_for_who_has_it_alone,
        ),
        trial(
            "a_hundred_thousand_units_take_little_memory",
            together::a_hundred_thousand_units_take_little_memory,
        ),
        trial(
            "readers_work_during_a_run",
            together::readers_work_during_a_run,
        ),
        trial("killed_at_any_time", kills::killed_at_any_time),
        trial(
            "killed_at_every_kind_of_moment",
            kills::killed_at_every_kind_of_moment,
        ),
        trial("killed_while_it_verifies", kills::killed_while_it_verifies),
        trial("killed_while_it_repairs", kills::killed_while_it_repairs),
        trial("killed_while_it_collects", kills::killed_while_it_collects),
        trial(
            "a_run_that_is_killed_leaves_no_child",
            isolated::a_run_that_is_killed_leaves_no_child,
        ),
        trial(
            "a_cache_that_cannot_be_written_is_read",
            mounts::a_cache_that_cannot_be_written_is_read,
        ),
        trial(
            "a_disk_that_is_full_for_real",
            mounts::a_disk_that_is_full_for_real,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
