//! SIGINT and SIGTERM: the first signal stops the run after the current unit of work, the second
//! exits immediately.

use std::io;
use std::thread;

use blip_engine::StopSignal;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::console::write_stderr;
use crate::error::{ErrorMessage, os_message};
use crate::exit_code;

/// Connects signals to `stop`. The handler thread lives as long as the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub(crate) fn install(stop: StopSignal) -> Result<(), ErrorMessage> {
    spawn_handler(stop).map_err(|error| ErrorMessage {
        message: format!("could not install signal handlers: {}", os_message(&error)),
        help: "check the resource limits of this process".to_owned(),
        exit_code: exit_code::IO,
    })
}

fn spawn_handler(stop: StopSignal) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if stop.is_requested() {
                    // `_exit`, not `exit`: exit handlers would wait for threads that compute.
                    // Nothing is lost, since the cache survives a kill at any time.
                    low_level::exit(i32::from(exit_code::INTERRUPTED));
                }
                stop.request();
                write_stderr("\nfinishing current work; press Ctrl-C again to stop immediately\n");
            }
        })?;
    Ok(())
}
