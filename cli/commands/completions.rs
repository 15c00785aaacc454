//! `blip completions`: what a shell needs to complete commands and options.

use clap::CommandFactory;

use crate::args::{Args, Completions};
use crate::console::Console;
use crate::exit_code;
use crate::failure::Failure;

/// Prints the script.
pub(crate) fn run(args: &Completions, console: &mut Console) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "blip", &mut script);
    console.print(&String::from_utf8_lossy(&script));
    Ok(exit_code::DONE)
}
