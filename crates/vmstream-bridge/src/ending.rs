//! Why a guest did not go, and what became of it.

use std::thread;
use std::time::{Duration, Instant};

use vmstream_transcode::SOURCE_FAILED;

use crate::error::BridgeError;
use crate::machine::{Machine, Progress};

/// How long QEMU may take to end what it began.
const END: Duration = Duration::from_secs(60);

/// Why it ended: what the other side says, unless that is an echo; what is wrong with the connection; what cannot be sent;
/// what QEMU says.
pub(crate) fn reason(
    progress: Progress,
    state: Option<Result<(), BridgeError>>,
    answers: Option<Result<(), BridgeError>>,
) -> BridgeError {
    use vmstream_transcode::Error::{Unsupported, Write};
    let ended = |end: Option<Result<(), BridgeError>>| end.and_then(Result::err);
    let is_echo = |error: &BridgeError| matches!(error, BridgeError::GaveUp { finding } if finding.code == SOURCE_FAILED);
    let answers = ended(answers).filter(|error| !is_echo(error));
    if let Some(error @ (BridgeError::GaveUp { .. } | BridgeError::Peer(_))) = answers {
        return error;
    }
    match (ended(state), answers) {
        (Some(BridgeError::Transcode(error @ (Unsupported { .. } | Write(_)))), _) => error.into(),
        (Some(error), _) | (None, Some(error)) if !progress.has_failed() => error,
        _ => {
            let status = progress.status;
            // What else QEMU says of one that was cancelled is how it ended, not why.
            let said = progress.error.filter(|_| status != "cancelled");
            let why = said.unwrap_or_else(|| format!("its migration is {status}"));
            BridgeError::Qemu { who: "the source's QEMU", why }
        }
    }
}

/// Turns off what was turned on at a source that has its guest, and says what that does.
pub(crate) fn as_before(machine: &mut Machine, turned_on: &[String]) -> String {
    for name in turned_on {
        // It does no harm where it stays on.
        drop(machine.set_capability(name, false));
    }
    let Ok(status) = machine.status() else { return SILENT.to_owned() };
    let it = if status == "running" { "runs on" } else { "stays" };
    format!("the guest {it} at the source ({status})")
}

/// What is known of a guest whose QEMU says nothing.
const SILENT: &str = "the source's QEMU does not answer";

/// Ends what was begun, and says what became of the guest.
pub(crate) fn settle(machine: &mut Machine, before: &str, turned_on: &[String]) -> String {
    let deadline = Instant::now() + END;
    loop {
        let (Ok(progress), Ok(status)) = (machine.progress(), machine.status()) else {
            return SILENT.to_owned();
        };
        if progress.status == "completed" {
            return format!(
                "the source has let go of the guest ({status}), and its arrival was not confirmed"
            );
        }
        if progress.is_postcopy() {
            return "the guest is in two places, and postcopy is interrupted".to_owned();
        }
        let is_over = progress.has_failed() || ["", "none"].contains(&progress.status.as_str());
        if is_over && (status == before || Instant::now() > deadline) {
            return as_before(machine, turned_on);
        }
        if !is_over && progress.status != "cancelling" {
            // If it cannot be cancelled, it has ended.
            drop(machine.cancel());
        }
        if Instant::now() > deadline {
            return format!("the source's migration does not end ({})", progress.status);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
