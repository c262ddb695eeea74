//! Why a command failed, and the exit code for it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::output::printable;

/// Exit code where two things differ, or one refuses the other.
pub(crate) const DIFFERS: u8 = 1;
/// Exit code for a broken input.
const BROKEN: u8 = 2;
/// Exit code for a wrong command line, as in `sysexits.h`.
pub(crate) const USAGE: u8 = 64;
/// Exit code of a program that Ctrl-C ends: 128 and the signal's number.
const INTERRUPTED: u8 = 130;
/// Exit code of a program that a closed pipe ends: 128 and the signal's number.
const PIPE: u8 = 141;

/// What was asked for cannot be: the stream has no such thing, or is of another sort.
#[derive(Debug)]
pub(crate) struct Unfit(pub(crate) String);

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// An error for what cannot be.
pub(crate) fn unfit(why: impl Into<String>) -> anyhow::Error {
    Unfit(why.into()).into()
}

/// Prints an error and turns it into the exit code of the process.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        let source = cause.downcast_ref::<io::Error>();
        source.is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
    };
    // The other side of a bridge is a pipe, too, but no reader of what is printed.
    let is_bridge = error.chain().any(|cause| cause.is::<vmstream_bridge::BridgeError>());
    if !is_bridge && error.chain().any(is_closed_pipe) {
        return ExitCode::from(PIPE);
    }
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "error: {}", told(error)));
    if error.downcast_ref().is_some_and(vmstream_bridge::BridgeError::is_stop) {
        return ExitCode::from(INTERRUPTED);
    }
    let unfit = error.chain().any(|cause| cause.is::<Unfit>());
    ExitCode::from(if unfit { DIFFERS } else { BROKEN })
}

/// An error and its causes in one line, as [`told`].
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    printable(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// The chain of causes in one line, which no escape sequence of an input can reach the terminal in.
fn told(error: &anyhow::Error) -> String {
    printable(&format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use vmstream_bridge::BridgeError;

    use super::*;

    #[test]
    fn only_a_reader_of_what_is_printed_may_hang_up_in_silence() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(report(&pipe().into()), ExitCode::from(PIPE));
        assert_eq!(report(&BridgeError::Io(pipe()).into()), ExitCode::from(BROKEN));
    }
}
