//! What the user sees: results on standard output, messages on standard error.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::cli::{Format, Global, LogFormat};
use crate::failure::Failure;

/// Where results and messages go, and in which form.
pub(crate) struct Ui {
    format: Format,
    log_format: LogFormat,
    quiet: bool,
    verbose: u8,
    color: bool,
}

impl Ui {
    /// Follows the global options, `NO_COLOR` and what standard error is.
    pub(crate) fn new(global: &Global) -> Self {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format: global.output,
            log_format: global.log_format,
            quiet: global.quiet,
            verbose: global.verbose,
            color: !no_color && io::stderr().is_terminal(),
        }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// How messages are written.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Whether messages are unwanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// How often `-v` was given.
    pub(crate) fn verbosity(&self) -> u8 {
        self.verbose
    }

    /// Whether a progress bar would be seen and is wanted.
    pub(crate) fn wants_progress(&self) -> bool {
        !self.quiet && self.log_format == LogFormat::Text && io::stderr().is_terminal()
    }

    /// Prints a result: one line for people.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Failure> {
        written(writeln!(io::stdout().lock(), "{text}"))
    }

    /// Prints a result as JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let result = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
        written(result.and_then(|()| writeln!(out)))
    }

    /// Tells the user what happened, unless they asked for quiet.
    pub(crate) fn message(&self, text: impl Display) {
        if self.quiet {
            return;
        }
        match self.log_format {
            LogFormat::Text => to_stderr(&printable(&text.to_string())),
            LogFormat::Json => tracing::info!("{text}"),
        }
    }

    /// Passes a line of a log on, which is in the right format already.
    pub(crate) fn passed_on(&self, line: &str) {
        if !self.quiet {
            to_stderr(&printable(line.trim_end()));
        }
    }

    /// Tells the user what may be wrong, even when quiet.
    pub(crate) fn warn(&self, text: impl Display) {
        match self.log_format {
            LogFormat::Text => {
                let text = printable(&text.to_string());
                to_stderr(&format!("{} {text}", self.painted("warning:", "33")));
            }
            LogFormat::Json => tracing::warn!("{text}"),
        }
    }

    /// Prints a failure's chain and advice, and turns it into the exit code of the process.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        if !failure.is_silent() {
            self.report(failure);
        }
        ExitCode::from(failure.exit_code())
    }

    /// Prints a failure without ending the command: others may still succeed.
    pub(crate) fn report(&self, failure: &Failure) {
        let chain = printable(&failure.chain().join(": "));
        match self.log_format {
            LogFormat::Text => {
                to_stderr(&format!("{} {chain}", self.painted("error:", "1;31")));
                if let Some(hint) = failure.advice() {
                    let hint = printable(hint);
                    to_stderr(&format!("{} {hint}", self.painted("hint:", "36")));
                }
            }
            LogFormat::Json => match failure.advice() {
                Some(hint) => tracing::error!(hint, "{chain}"),
                None => tracing::error!("{chain}"),
            },
        }
    }

    fn painted(&self, text: &str, style: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Makes text safe for a terminal: names and messages may come from a guest, and an escape
/// sequence in them could rewrite what the user sees. Line breaks and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => safe.push(character),
            other if other.is_control() => safe.extend(other.escape_default()),
            other => safe.push(other),
        }
    }
    safe
}

/// An empty table without borders, its first column flush with the left; columns in `right` are numbers.
pub(crate) fn table<const N: usize>(header: [&str; N], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

/// Bytes in the unit that a person would choose: `14 B`, `1.5 KiB`, `256.0 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// How long ago a time was, roughly. Unit of the argument: seconds since 1970.
pub(crate) fn ago(then: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = now.saturating_sub(then);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

/// A reader that has gone (`bandsox list | head -1`) is no failure worth a message: the exit code
/// is what a shell reports of a program that SIGPIPE killed.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Failure> {
    const CLOSED_PIPE: u8 = 128 + 13;
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::silent(CLOSED_PIPE))
        }
        Err(error) => Err(Failure::from(error).context("could not write to standard output")),
    }
}

/// Standard error may be closed; there is nobody left to tell.
fn to_stderr(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_a_guest_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\u{9b}c\n"), "a\\u{1b}[2Jb\\r\\u{9b}c\n");
    }

    #[test]
    fn bytes_are_shown_in_a_readable_unit() {
        let shown = [0, 14, 1024, 1536, 268_435_456, u64::MAX].map(human_bytes);

        assert_eq!(shown, ["0 B", "14 B", "1.0 KiB", "1.5 KiB", "256.0 MiB", "16383.9 PiB"]);
    }

    #[test]
    fn a_closed_pipe_is_silent_and_looks_like_sigpipe() {
        let failure = written(Err(io::ErrorKind::BrokenPipe.into())).expect_err("is a failure");

        assert!(failure.is_silent());
        assert_eq!(failure.exit_code(), 141);
    }
}
