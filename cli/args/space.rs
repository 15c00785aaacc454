//! Arguments of the commands about the cache as such, and about runs that are over.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ArgGroup, Subcommand};

use super::{Format, OverrideArgs, size};

/// What to do with a cache.
#[derive(Subcommand, Debug)]
pub(crate) enum CacheCommand {
    /// Show what the cache takes on the disk
    Du(Du),
    /// Remove results that are not needed any more
    Gc(Gc),
    /// Look for damaged files; what is damaged is moved to `damaged/` in the cache, and the next
    /// run makes it again
    Verify(Verify),
    /// Keep the results of a run for good
    Pin(Pin),
    /// Let the results of a pinned run go again
    Unpin(Pin),
}

/// The cache, when no workflow says where it is.
#[derive(ArgGroup, Debug)]
pub(crate) struct Place {
    /// The cache folder; it lies beside the workflow
    #[arg(long, value_name = "DIR", default_value = ".blip")]
    pub(crate) cache: PathBuf,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Du {
    #[command(flatten)]
    pub(crate) place: Place,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Gc {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Keep the results of this many last runs of every workflow; pinned runs and what was exported
    /// stay anyway
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep_runs: usize,
    /// Remove only what is at least this old, such as 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<Duration>,
    /// Remove only until the cache takes no more than this, such as 20GiB: what is cheapest to make
    /// again goes first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Show what would go, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Exit with 75 when a run is at work in the cache, instead of waiting for it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Read the content of everything
    #[arg(long)]
    pub(crate) full: bool,
    /// Read the content of this share of everything, another one every time, such as 5%
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "full")]
    pub(crate) subset: Option<f64>,
    /// Make again at once what is damaged, as far as this workflow makes it, and nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) repair: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    /// Exit with 75 when the cache is being cleaned, instead of waiting
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Pin {
    /// The run, by its id
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Diff {
    /// The older run, by its id
    #[arg(value_name = "RUN")]
    pub(crate) old: String,
    /// The newer run, by its id
    #[arg(value_name = "RUN")]
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) place: Place,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

/// An age as the language writes times.
fn age(text: &str) -> Result<Duration, String> {
    let parsed = blip_grammar::parse_duration(text).map(Duration::from_millis);
    parsed.ok_or_else(|| "an age is a number with a unit, such as 30d or 12h".to_owned())
}

/// A share of everything: `5%`.
fn share(text: &str) -> Result<f64, String> {
    let share = text
        .strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok())
        .map(|percent| percent / 100.0);
    share
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "a share is more than 0% and at most 100%".to_owned())
}
