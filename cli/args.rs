//! The command line, as clap sees it: every command, argument and help text.

pub(crate) mod space;

use std::ffi::OsString;
use std::path::PathBuf;

use blip_grammar::ParamOverride;
use clap::{Args as ArgGroup, Parser, Subcommand, ValueEnum};

/// The BLIP bootstrap as a workflow: check it, plan it, run it, and see where every result came
/// from.
#[derive(Parser, Debug)]
#[command(
    name = "blip",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Begin with `blip run workflows/demo.blip`, or `blip ops` to see what a workflow can do."
)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Say more about what happens: -v for information, -vv for details (RUST_LOG chooses by
    /// module)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Check workflows without running anything
    Check(Check),
    /// Bring workflows into the standard layout
    Fmt(Fmt),
    /// List the ops, or explain one
    Ops(Ops),
    /// Show what a cache takes, and keep it within bounds
    #[command(subcommand)]
    Cache(space::CacheCommand),
    /// Compare two runs, field by field
    Diff(space::Diff),
    /// Run one stage that was marked `@isolate`: how blip starts itself
    #[command(hide = true)]
    Stage {
        /// The job file
        job: PathBuf,
    },
    /// Show the graph of a workflow
    Graph(Graph),
    /// Show what a run would do, and why
    Plan(Plan),
    /// Run a workflow; what is known is not run again
    Run(Run),
    /// Show how far the newest run is, and how earlier ones ended
    Status(Status),
    /// Show what happened in a run, also while it is going on
    Log(Log),
    /// Explain field by field why a stage would run, or from where it would be reused
    Explain(Explain),
    /// Tell the story of an image's texts: where they are from, who wrote and who judged them
    Lineage(Lineage),
    /// Print completions for a shell
    Completions(Completions),
    /// Look into a model of transformers or an official checkpoint
    Model(Model),
    /// Explain a command, a diagnostic's code, or the exit codes
    Help(Help),
}

/// A workflow and the values of its params.
#[derive(ArgGroup, Debug)]
pub(crate) struct WorkflowArgs {
    /// The workflow
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

/// Values for params.
#[derive(ArgGroup, Clone, Debug)]
pub(crate) struct OverrideArgs {
    /// Set a param, written as in the workflow: --set threshold=0.4
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) set: Vec<ParamOverride>,
    /// Set params from a TOML file of `name = value` lines; --set wins over it
    #[arg(long, value_name = "FILE")]
    pub(crate) params: Option<PathBuf>,
}

/// The cache of a workflow.
#[derive(ArgGroup, Debug)]
pub(crate) struct CacheArgs {
    /// The cache folder [default: `.blip` beside the workflow]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// The index of the cache: `none` keeps it in memory, for file systems without locks
    #[arg(long, value_name = "KIND", default_value = "sled")]
    pub(crate) index: Index,
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
    /// With excerpts of the workflow
    Text,
    /// One line each
    Short,
    /// One JSON object a line
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GraphFormat {
    Text,
    /// For graphviz
    Dot,
    /// For Markdown
    Mermaid,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Check {
    /// The workflows
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    /// How to show what is found
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: CheckFormat,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Fmt {
    /// The workflows; `-` formats standard input to standard output
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Change nothing: show what would change and exit with 1 if anything would
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Ops {
    /// The op or export format to explain
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Graph {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: GraphFormat,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// Only these stages and what they need [default: what the workflow exports, and its results]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// Only these stages and what they need [default: what the workflow exports, and its results]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// After a failure, go on with everything that does not need the failed stage
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Exit with 75 when another process cleans the cache or runs one of these stages, instead of
    /// waiting for it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Try items again that could not be used before
    #[arg(long)]
    pub(crate) retry_bad: bool,
    /// Write what the stages came to into `blip.lock` beside the workflow; done anyway where there
    /// is one
    #[arg(long, conflicts_with_all = ["locked", "targets"])]
    pub(crate) lock: bool,
    /// Come to what `blip.lock` says, or fail and say where not
    #[arg(long)]
    pub(crate) locked: bool,
    /// Write where the time goes into this file, for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// How many cores stages may use together [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) jobs: Option<u32>,
    /// How much memory stages may ask for together, such as 16GiB [default: all]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// Write a report into this folder: sheets of judged pairs, curves of trainings, and all
    /// numbers as JSON
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// What to show while it runs: text, or every event as a JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

/// The cache that is read.
#[derive(ArgGroup, Debug)]
pub(crate) struct ReadArgs {
    /// The cache folder; it lies beside the workflow
    #[arg(long, value_name = "DIR", default_value = ".blip")]
    pub(crate) cache: PathBuf,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Log {
    /// The run, by its id or how that begins [default: the newest]
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Go on until the run ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what is about this stage
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// How to show it: text, or every event as a JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// The stage
    #[arg(value_name = "STAGE")]
    pub(crate) stage: String,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Lineage {
    #[command(flatten)]
    pub(crate) workflow: WorkflowArgs,
    /// The key of a sample, or the digest of an image or how it begins
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Model {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: ModelCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ModelCommand {
    /// Show what a checkpoint holds and whether it is whole; nothing in it is executed
    Inspect(Inspect),
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Inspect {
    /// A folder that `save_pretrained` wrote, or an official `.pth` file
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// How to show it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(ArgGroup, Debug)]
pub(crate) struct Help {
    /// A command, a code such as E020, `codes` or `exit-codes`
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
}

/// `name=value`
fn setting(text: &str) -> Result<ParamOverride, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok(ParamOverride {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        }),
        _ => Err("a setting is NAME=VALUE, such as threshold=0.4".to_owned()),
    }
}

/// A size as the language writes it.
fn size(text: &str) -> Result<u64, String> {
    blip_grammar::parse_size(text)
        .ok_or_else(|| "a size is a number with a unit, such as 16GiB or 500MB".to_owned())
}

/// The command line of this process.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(words)
}
