//! SIGINT and SIGTERM: the first signal stops the run after the current unit of work, the second
//! exits immediately. SIGXFSZ is no reason to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use blip_engine::StopSignal;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
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

/// A write beyond the limit of file sizes becomes an error with a message, where the signal's
/// default is to end the process without one.
pub(crate) fn report_large_files_as_errors() {
    // Without the handler there is only no message.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
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
