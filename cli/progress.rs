//! Output during a run: bars on a terminal, lines in a log, or events as JSON.

mod bars;
mod json;
pub(crate) mod lines;

use std::env;
use std::io::{self, IsTerminal};

use blip_engine::Listener;

pub(crate) use self::bars::suspend_bars;
use crate::args::Format;
use crate::console::{Console, is_dumb_terminal, no_color};

/// The listener for a format. Bars need a terminal with a movable cursor and a person who watches:
/// CI gets lines, and so does `-v`, whose messages would interrupt the bars all the time.
pub(crate) fn listener(format: Format, verbose: bool, console: &Console) -> Box<dyn Listener> {
    match format {
        Format::Json => Box::new(json::Json {
            error: console.first_error(),
        }),
        Format::Text if !verbose && can_show_bars() => Box::new(bars::Bars::new()),
        Format::Text => Box::new(lines::Printer::default()),
    }
}

fn can_show_bars() -> bool {
    let ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !ci && !no_color() && !is_dumb_terminal()
}
