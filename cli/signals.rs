//! Ctrl-C and SIGTERM: the first finishes the unit of work in hand, the second ends at once.

use std::io;
use std::thread;

use blip_engine::StopSignal;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::console::say;
use crate::exit_code;
use crate::failure::{Fault, reason};

/// From now on a signal asks `stop`. The thread that listens lives as long as the process.
///
/// # Errors
/// When the handlers cannot be set.
pub(crate) fn listen(stop: StopSignal) -> Result<(), Fault> {
    handle(stop).map_err(|error| {
        let what = format!("could not listen to Ctrl-C: {}", reason(&error));
        Fault {
            what,
            help: "check the limits of this process".to_owned(),
            code: exit_code::IO,
        }
    })
}

fn handle(stop: StopSignal) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if stop.is_requested() {
                    // Not the ordinary exit: it would wait for threads that compute, which is what
                    // nobody wants any more.
                    low_level::exit(i32::from(exit_code::INTERRUPTED));
                }
                stop.request();
                say("\nstopping when the unit of work in hand is done; once more stops now\n");
            }
        })?;
    Ok(())
}
