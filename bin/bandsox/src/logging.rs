//! Diagnostics of the program itself, on standard error.

use std::io;

use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::cli::{Global, LogFormat};

/// Starts the log that `-v` and `--log-format` ask for.
///
/// In JSON, the program's messages are log lines too, so that everything on standard error is
/// one object a line.
pub(crate) fn start(global: &Global) {
    let level = match (global.verbose, global.log_format, global.quiet) {
        (0, LogFormat::Text, _) => LevelFilter::OFF,
        (0, LogFormat::Json, true) => LevelFilter::from_level(Level::WARN),
        (0, LogFormat::Json, false) | (1, _, _) => LevelFilter::from_level(Level::INFO),
        (2, _, _) => LevelFilter::from_level(Level::DEBUG),
        (3.., _, _) => LevelFilter::from_level(Level::TRACE),
    };
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(level);
    match global.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).init(),
    }
}
