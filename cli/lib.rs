//! The command line of blip: arguments in, text out. The only package that prints.
//!
//! [`main`] parses the arguments, hands them to the command's file in `commands/`, shows what went wrong, and gives the
//! exit code.

mod amounts;
mod args;
mod cache_folder;
mod commands;
mod console;
pub mod exit_code;
mod failure;
mod lock_file;
mod logging;
mod machine;
mod overrides;
mod progress;
mod render;
mod signals;
mod summary;
mod table;
mod view;
mod workflow_file;

use std::ffi::OsString;

use self::args::{Args, Command};
use self::console::Console;
use self::failure::{Failure, Fault, reason};

/// Does what a command line says and gives the exit code.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(error) => {
            // Also `--help` and `--version` come this way. When nobody reads it there is nobody to
            // tell.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(exit_code::USAGE);
        }
    };
    logging::start(args.verbose);
    let mut console = Console::new();
    let code = dispatch(args, &mut console).unwrap_or_else(|failure| report(failure, &mut console));
    match console.finish() {
        Ok(()) => code,
        Err(error) => {
            let fault = Fault {
                what: format!("could not write to standard output: {}", reason(&error)),
                help: "send the output somewhere else".to_owned(),
                code: exit_code::IO,
            };
            console::say(&render::fault(&fault, false));
            exit_code::IO
        }
    }
}

fn dispatch(args: Args, console: &mut Console) -> Result<u8, Failure> {
    let verbose = args.verbose > 0;
    match args.command {
        Command::Check(args) => commands::check::run(&args, console),
        Command::Fmt(args) => commands::fmt::run(&args, console),
        Command::Ops(args) => commands::ops::run(&args, console),
        Command::Cache(args) => commands::cache::run(&args, console),
        Command::Diff(args) => commands::diff::run(&args, console),
        Command::Stage { job } => Ok(blip_engine::isolate::child(&blip_ops::all(), &job)),
        Command::Graph(args) => commands::graph::run(&args, console),
        Command::Plan(args) => commands::plan::run(&args, console),
        Command::Run(args) => commands::run::run(&args, verbose, console),
        Command::Status(args) => commands::status::run(&args, console),
        Command::Log(args) => commands::log::run(&args, console),
        Command::Explain(args) => commands::explain::run(&args, console),
        Command::Lineage(args) => commands::lineage::run(&args, console),
        Command::Completions(args) => commands::completions::run(&args, console),
        Command::Model(args) => commands::model::run(&args, console),
        Command::Help(args) => commands::help::run(&args, console),
    }
}

/// Shows why a command could not do what it was asked; gives the exit code.
fn report(failure: Failure, console: &mut Console) -> u8 {
    let color = console.color_err;
    match failure {
        Failure::Fault(fault) => {
            console.print_err(&render::fault(&fault, color));
            fault.code
        }
        Failure::NoSource(name, diagnostic) => {
            console.print_err(&render::without_source(&diagnostic, &name, color));
            exit_code::USAGE
        }
        Failure::Workflow(source, diagnostics) => {
            console.print_err(&render::diagnostics(&diagnostics, &source, color));
            console.note(commands::check::verdict(&diagnostics, source.name()));
            exit_code::USAGE
        }
    }
}
