//! The program `blip`; everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(blip::main(std::env::args_os()))
}
