//! The `blip` binary; the code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(blip::main(std::env::args_os()))
}
