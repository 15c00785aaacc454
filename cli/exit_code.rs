//! Exit codes. They are part of the interface: scripts depend on them.

pub const SUCCESS: u8 = 0;
/// A stage or an export failed, `fmt --check` found an unformatted file, or `cache verify` a
/// corrupt one.
pub const FAILED: u8 = 1;
/// The command line or the workflow is invalid; nothing ran.
pub const USAGE: u8 = 2;
/// A file or the cache could not be read or written: `EX_IOERR` of sysexits.h.
pub const IO: u8 = 74;
/// Another process holds the cache, or computes what a stage needs, and `--no-wait` was given:
/// `EX_TEMPFAIL` of sysexits.h.
pub const BUSY: u8 = 75;
/// The run was interrupted by Ctrl-C or SIGTERM: 128 + SIGINT, as shells report it.
pub const INTERRUPTED: u8 = 130;

/// Every exit code with the description that `blip help exit-codes` prints.
pub const ALL: &[(u8, &str)] = &[
    (SUCCESS, "success"),
    (
        FAILED,
        "a stage or an export failed, `fmt --check` found an unformatted file, or `cache verify` a \
         corrupt one",
    ),
    (
        USAGE,
        "the command line or the workflow is invalid; nothing ran",
    ),
    (IO, "a file or the cache could not be read or written"),
    (
        BUSY,
        "another process holds the cache or computes a stage, and --no-wait was given",
    ),
    (
        INTERRUPTED,
        "the run was interrupted by Ctrl-C or SIGTERM; run again to resume",
    ),
];
