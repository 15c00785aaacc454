//! Arguments of `blip cache` and `blip diff`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ArgGroup, Subcommand};

use super::{CacheDirArgs, Format, OverrideArgs, size};

#[derive(Subcommand, Debug)]
pub(crate) enum CacheCommand {
    /// Show the disk usage of the cache
    Du(Du),
    /// Remove results that are no longer needed
    Gc(Gc),
    /// Check the cache for corrupt files
    ///
    /// Corrupt files are moved to `corrupt/` in the cache, and the next run recomputes them.
    Verify(Verify),
    /// Protect the results of a run from `gc`
    Pin(Pin),
    /// Remove the protection of a pinned run
    Unpin(Pin),
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Du {
    #[command(flatten)]
    pub(crate) dir: CacheDirArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Gc {
    #[command(flatten)]
    pub(crate) dir: CacheDirArgs,
    /// Keep the results of the last N runs of every workflow; pinned runs and exported results are
    /// always kept
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep_runs: usize,
    /// Remove only results older than this, e.g. 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,
    /// Stop once the cache is no larger than this, e.g. 20GiB; results that are cheapest to
    /// recompute are removed first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Show what would be removed without removing it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Exit with code 75 instead of waiting while a run uses the cache
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) dir: CacheDirArgs,
    /// Read the content of all files
    #[arg(long)]
    pub(crate) full: bool,
    /// Read the content of this share of the files, a different one each time, e.g. 5%
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "full")]
    pub(crate) subset: Option<f64>,
    /// Recompute corrupt results of this workflow right away, and nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) repair: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    /// Exit with code 75 instead of waiting while `blip cache gc` runs
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Pin {
    /// Run id
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) dir: CacheDirArgs,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Diff {
    /// Id of the older run
    #[arg(value_name = "OLD")]
    pub(crate) old: String,
    /// Id of the newer run
    #[arg(value_name = "NEW")]
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) dir: CacheDirArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

/// Parses a duration as the workflow language writes it.
fn age(text: &str) -> Result<Duration, String> {
    blip_grammar::parse_duration(text)
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a number with a unit, such as 30d or 12h".to_owned())
}

/// Parses a percentage, `5%`, into a fraction.
fn share(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok())
        .map(|percent| percent / 100.0)
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "expected a percentage above 0% and up to 100%".to_owned())
}
