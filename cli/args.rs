//! The command line, as clap sees it: every command, argument and help text.

pub(crate) mod cache;

use std::ffi::OsString;
use std::path::PathBuf;

use blip_grammar::ParamOverride;
use clap::{Args as ArgGroup, Parser, Subcommand, ValueEnum};

/// Run the BLIP bootstrap, and other image-text pipelines, as incremental workflows
#[derive(Parser, Debug)]
#[command(
    name = "blip",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Get started with `blip run workflows/demo.blip`; list the ops with `blip ops`."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Use verbose output (-vv very verbose; RUST_LOG selects by module)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Check workflows for errors without running them
    Check(Check),
    /// Format workflows
    Fmt(Fmt),
    /// List ops and export formats, or describe one
    Ops(Ops),
    /// Inspect, clean and verify a cache
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Show differences between two runs
    Diff(cache::Diff),
    /// Run a single stage: the child process of a stage marked `@isolate`
    #[command(hide = true)]
    Stage {
        /// Job file
        job: PathBuf,
        #[command(flatten)]
        device: DeviceArgs,
    },
    /// Show the stages of a workflow and their dependencies
    Graph(Graph),
    /// Show which stages would run, and why
    Plan(Plan),
    /// Run a workflow, reusing cached results
    Run(Run),
    /// Show the status of the latest runs
    Status(Status),
    /// Show the events of a run
    Log(Log),
    /// Explain why a stage would run or be reused
    Explain(Explain),
    /// Show the provenance of an image's texts: source, captioner, score, verdict
    Lineage(Lineage),
    /// Generate shell completions
    Completions(Completions),
    /// Inspect a model of transformers or an official BLIP checkpoint
    Model(Model),
    /// Show help for a command, an error code or the exit codes
    Help(Help),
}

#[derive(ArgGroup, Debug)]
pub(crate) struct WorkflowArgs {
    /// Workflow file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

#[derive(ArgGroup, Clone, Debug)]
pub(crate) struct OverrideArgs {
    /// Override a param, e.g. threshold=0.4
    #[arg(long, value_name = "NAME=VALUE", value_parser = param_override)]
    pub(crate) set: Vec<ParamOverride>,
    /// Override params with the `name = value` lines of a TOML file; --set takes precedence
    #[arg(long, value_name = "FILE")]
    pub(crate) params: Option<PathBuf>,
}

/// The cache of a given workflow.
#[derive(ArgGroup, Debug)]
pub(crate) struct CacheArgs {
    /// Cache folder [default: `.blip` beside the workflow]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Index of the cache; `none` rebuilds it in memory, for file systems without locks
    #[arg(long, value_name = "KIND", default_value = "sled")]
    pub(crate) index: Index,
}

/// The device that models run on.
#[derive(ArgGroup, Clone, Copy, Default, Debug)]
pub(crate) struct DeviceArgs {
    /// Device that models run on: auto, cpu or cuda [default: BLIP_DEVICE, or auto]
    #[arg(long, value_name = "DEVICE", hide_possible_values = true)]
    pub(crate) device: Option<Device>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    Auto,
    Cpu,
    Cuda,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Index {
    Sled,
    None,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CheckFormat {
    /// Diagnostics with source excerpts
    Text,
    /// One line per diagnostic
    Short,
    /// One JSON object per line
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GraphFormat {
    /// A table
    Text,
    /// Graphviz
    Dot,
    /// Mermaid, as Markdown renderers show it
    Mermaid,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Check {
    /// Workflow files
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: CheckFormat,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Fmt {
    /// Workflow files; `-` formats standard input to standard output
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Show a diff instead of writing, and exit with code 1 if any file is unformatted
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Ops {
    /// Op or export format
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Graph {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: GraphFormat,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// Stages to bring up to date, with their inputs [default: all exports and results]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// Stages to bring up to date, with their inputs [default: all exports and results]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Keep going after a failure with stages that do not depend on the failed one
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Exit with code 75 instead of waiting for a process that cleans the cache or computes the
    /// same result
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Retry items that earlier runs rejected
    #[arg(long)]
    pub(crate) retry_bad: bool,
    /// Let exports and reports replace files that they did not write, or that were changed since
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Write the results of all stages to `blip.lock` beside the workflow; an existing file is
    /// always updated
    #[arg(long, conflicts_with_all = ["locked", "targets"])]
    pub(crate) lock: bool,
    /// Fail if a result would differ from `blip.lock`
    #[arg(long)]
    pub(crate) locked: bool,
    /// Write a Chrome trace to this file, for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Number of CPU cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) jobs: Option<u32>,
    /// Amount of memory to use, e.g. 16GiB [default: all]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// Write a report to this folder: sheets of kept and rejected pairs, training curves, and all
    /// metrics as JSON
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Output format; `json` prints every event as one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

/// The cache of a command that takes no workflow.
#[derive(ArgGroup, Debug)]
pub(crate) struct CacheDirArgs {
    /// Cache folder; a workflow's cache is beside it
    #[arg(long, value_name = "DIR", default_value = ".blip")]
    pub(crate) cache: PathBuf,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) dir: CacheDirArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Log {
    /// Run id, or a unique prefix of one [default: the latest run]
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Wait for new events until the run ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show only the events of this stage
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    #[command(flatten)]
    pub(crate) dir: CacheDirArgs,
    /// Output format; `json` prints every event as one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// Stage name
    #[arg(value_name = "STAGE")]
    pub(crate) stage: String,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Lineage {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// Key of a sample, or an image's digest or a prefix of it
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Completions {
    /// Shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Model {
    #[command(subcommand)]
    pub(crate) command: ModelCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ModelCommand {
    /// Show the contents of a checkpoint and validate it; code in it is never executed
    Inspect(Inspect),
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Inspect {
    /// Folder written by `save_pretrained`, or an official `.pth` file
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Help {
    /// Command such as `run` or `cache gc`, error code such as E020, `codes` or `exit-codes`
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: Vec<String>,
}

/// Parses `name=value`.
fn param_override(text: &str) -> Result<ParamOverride, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok(ParamOverride {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        }),
        _ => Err("expected NAME=VALUE, such as threshold=0.4".to_owned()),
    }
}

/// Parses a size as the workflow language writes it, into bytes.
fn size(text: &str) -> Result<u64, String> {
    blip_grammar::parse_size(text)
        .ok_or_else(|| "expected a number with a unit, such as 16GiB or 500MB".to_owned())
}

/// Parses a command line whose first element is the program's name.
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(argv)
}
