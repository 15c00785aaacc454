//! Details for developers, by tracing, on standard error: `-v`, `-vv`, or `RUST_LOG` by module.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::progress;

/// Starts it.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info,blip=info",
        _ => "info,blip=debug,blip_engine=debug,blip_ops=debug,blip_data=debug,blip_model=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBars)
        .with_ansi(false)
        .with_target(verbose > 1)
        .without_time()
        .finish();
    // Somebody who calls this twice in one process, as tests do, keeps the first.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Standard error, with the bars out of the way while something is written.
struct AboveBars;

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::above_bars(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
