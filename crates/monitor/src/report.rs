//! What a monitor tells whoever asked for the start.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::spawn::Report;

/// The pipe to whoever asked for the start.
#[derive(Clone)]
pub(crate) struct Reporter {
    /// `None` once the start is over. Shared by the driver and the log.
    pipe: Arc<Mutex<Option<File>>>,
}

impl Reporter {
    /// Takes standard output, and leaves `/dev/null` there.
    pub(crate) fn from_stdout() -> io::Result<Self> {
        let pipe = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 10)?;
        let null = File::options().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        Ok(Self { pipe: Arc::new(Mutex::new(Some(File::from(pipe)))) })
    }

    /// Sends one report. Somebody who no longer listens is nobody's loss.
    pub(crate) fn send(&mut self, report: &Report) {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if pipe.as_mut().is_some_and(|pipe| pipe.write_all(&line).is_err()) {
            *pipe = None;
        }
    }

    /// The start is over.
    pub(crate) fn close(&mut self) {
        *self.pipe.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
