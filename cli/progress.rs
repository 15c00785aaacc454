//! What is shown while a run goes on: bars on a terminal, lines in a log, or events as JSON.

mod bars;
mod json;
pub(crate) mod lines;

use std::env;
use std::io::{self, IsTerminal};

use blip_engine::Listener;

pub(crate) use self::bars::above_bars;
use crate::args::Format;
use crate::console::{dumb, no_color};

/// The listener for this terminal. Bars need one that can move its cursor and somebody who watches;
/// with `-v`, details are printed all the time, and bars would only be in the way.
pub(crate) fn listener(format: Format, verbose: bool) -> Box<dyn Listener> {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let bars = io::stderr().is_terminal() && !set("CI") && !no_color() && !dumb() && !verbose;
    match format {
        Format::Json => Box::new(json::Json),
        Format::Text if bars => Box::new(bars::Bars::new()),
        Format::Text => Box::new(lines::Printer::default()),
    }
}
