//! The command line of blip: arguments in, text out. The only package that prints.
//!
//! [`main`] parses the arguments, calls the command's module in `commands/`, reports errors, and
//! returns the exit code.

mod args;
mod commands;
mod console;
mod error;
pub mod exit_code;
mod humanize;
mod input_file;
mod lockfile;
mod logging;
mod machine;
mod overrides;
mod progress;
mod render;
mod run_history;
mod run_view;
mod signals;
mod summary;
mod table;
mod workflow_file;

use std::ffi::OsString;

use self::args::{Args, Command};
use self::console::Console;
use self::error::{CommandError, ErrorMessage, os_message};

/// Runs the command line `argv`, whose first element is the program's name, and returns the exit
/// code.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match args::parse(argv) {
        Ok(args) => args,
        Err(error) => {
            // `--help` and `--version` also arrive here. There is no way to report a failing write.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(exit_code::USAGE);
        }
    };
    logging::init(args.verbose);
    signals::report_large_files_as_errors();
    let mut console = Console::new();
    let code = dispatch(args, &mut console).unwrap_or_else(|error| report(error, &mut console));
    match console.finish() {
        Ok(()) => code,
        Err(error) => {
            let message = ErrorMessage {
                message: format!("could not write to standard output: {}", os_message(&error)),
                help: "redirect the output elsewhere".to_owned(),
                exit_code: exit_code::IO,
            };
            console::write_stderr(&render::error_message(&message, false));
            exit_code::IO
        }
    }
}

fn dispatch(args: Args, console: &mut Console) -> Result<u8, CommandError> {
    let verbose = args.verbose > 0;
    match args.command {
        Command::Check(args) => commands::check::run(&args, console),
        Command::Fmt(args) => commands::fmt::run(&args, console),
        Command::Ops(args) => commands::ops::run(&args, console),
        Command::Cache(args) => commands::cache::run(&args, console),
        Command::Diff(args) => commands::diff::run(&args, console),
        Command::Stage { job, device } => {
            machine::choose_device(device);
            Ok(blip_engine::isolate::run_child(&blip_ops::all(), &job))
        }
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

/// Prints an error and returns its exit code.
fn report(error: CommandError, console: &mut Console) -> u8 {
    let color = console.color_err;
    match error {
        CommandError::Message(message) => {
            console.print_err(&render::error_message(&message, color));
            message.exit_code
        }
        CommandError::InvalidSource(name, diagnostic) => {
            console.print_err(&render::without_source(&diagnostic, &name, color));
            exit_code::USAGE
        }
        CommandError::Workflow(source, diagnostics) => {
            console.print_err(&render::diagnostics(&diagnostics, &source, color));
            console.note(commands::check::totals(&diagnostics, source.name()));
            exit_code::USAGE
        }
    }
}
