//! The exit codes of `blip`, each with its meaning: scripts rely on them.

/// Everything asked for is done.
pub const DONE: u8 = 0;
/// A stage or an export failed, or `fmt --check` found a file to format.
pub const FAILED: u8 = 1;
/// The command line or the workflow is wrong; nothing was run.
pub const USAGE: u8 = 2;
/// A file or the cache could not be read or written.
pub const IO: u8 = 74;
/// Another process has the cache, and the caller did not want to wait for it.
pub const BUSY: u8 = 75;
/// The run was asked to stop, by Ctrl-C or SIGTERM; running again goes on where it stopped.
pub const INTERRUPTED: u8 = 130;

/// All of them, with the words that `blip help exit-codes` shows.
pub const ALL: &[(u8, &str)] = &[
    (DONE, "everything asked for is done"),
    (
        FAILED,
        "a stage or an export failed, or `fmt --check` found a file to format",
    ),
    (
        USAGE,
        "the command line or the workflow is wrong; nothing was run",
    ),
    (IO, "a file or the cache could not be read or written"),
    (
        BUSY,
        "another process has the cache, and --no-wait was given",
    ),
    (
        INTERRUPTED,
        "the run was asked to stop, by Ctrl-C or SIGTERM; running again goes on where it stopped",
    ),
];
