//! The monitor's log: one line an event, bounded on disk.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use bandsox_store::log::{LogLimits, LogWriter};
use tracing_subscriber::filter::LevelFilter;

use crate::report::Reporter;
use crate::spawn::Report;

/// Sends all events of this process to `path`, and to `verbose` too while the VM starts.
pub(crate) fn start(path: &Path, json: bool, verbose: Option<Reporter>) -> io::Result<()> {
    let file = LogWriter::open(path, LogLimits::default())?;
    let level = if verbose.is_some() { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let writer = Mutex::new(Tee { file, verbose });
    let lines = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_target(false);
    let installed = if json {
        tracing::subscriber::set_global_default(lines.json().with_writer(writer).finish())
    } else {
        tracing::subscriber::set_global_default(lines.with_writer(writer).finish())
    };
    installed.map_err(io::Error::other)?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

struct Tee {
    file: LogWriter,
    verbose: Option<Reporter>,
}

impl Write for Tee {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(reporter) = &mut self.verbose {
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            reporter.send(&Report::Log(text));
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
