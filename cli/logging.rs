//! Tracing output on standard error, for developers: `-v`, `-vv`, or `RUST_LOG` by module.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::progress;

/// Installs the subscriber. `RUST_LOG` takes precedence over `verbose`, the number of `-v` flags.
pub(crate) fn init(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info,blip=info",
        _ => "info,blip=debug,blip_engine=debug,blip_ops=debug,blip_data=debug,blip_model=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(StderrAroundBars)
        .with_ansi(false)
        .with_target(verbose > 1)
        .without_time()
        .finish();
    // A process that calls `main` more than once, as tests do, keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Standard error; progress bars are cleared during each write and redrawn after it.
struct StderrAroundBars;

impl MakeWriter<'_> for StderrAroundBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for StderrAroundBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::suspend_bars(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
