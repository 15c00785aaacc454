//! `blip completions`: completion scripts for shells.

use clap::CommandFactory;

use crate::args::{Args, Completions};
use crate::console::Console;
use crate::error::CommandError;
use crate::exit_code;

pub(crate) fn run(args: &Completions, console: &mut Console) -> Result<u8, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "blip", &mut script);
    console.print(&String::from_utf8_lossy(&script));
    Ok(exit_code::SUCCESS)
}
