//! What can go wrong.

use std::io;

use vmstream::Finding;

use crate::back::Misfit;

/// Why a stream could not be turned into the other format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// QEMU's stream is broken, or could not be read.
    #[error("QEMU's stream cannot be read")]
    Qemu(#[from] vmstream_qemu::ReadError),
    /// Our stream is broken, or could not be read.
    #[error("the stream cannot be read")]
    Read(#[from] vmstream::ReadError),
    /// Our stream could not be written.
    #[error("the stream cannot be written")]
    Write(#[from] vmstream::WriteError),
    /// QEMU's stream could not be written.
    #[error("QEMU's stream cannot be written")]
    WriteQemu(#[from] vmstream_qemu::WriteError),
    /// A value has no place in QEMU's stream.
    #[error("the state of {device} does not fit QEMU's stream")]
    Misfit {
        /// Path of the device.
        device: String,
        /// Where and why.
        #[source]
        misfit: Misfit,
    },
    /// QEMU's stream has what cannot be said in ours.
    #[error("{what}: {why}")]
    Unsupported {
        /// What it has.
        what: &'static str,
        /// Why that is not possible, or what to do about it.
        why: &'static str,
    },
    /// The notes that say how QEMU's stream was made are missing or broken.
    #[error("this stream does not say how QEMU's is made of it: {what}")]
    Notes {
        /// What is missing or wrong.
        what: String,
    },
    /// The stream is no longer the one that QEMU's was made into: [`crate::Form::Precopy`] can still write it.
    #[error("memory or devices are not where QEMU's stream had them: {what}")]
    Moved {
        /// What is elsewhere.
        what: String,
    },
    /// Whoever wrote the stream gave up.
    #[error("its writer gave up: {finding}")]
    Aborted {
        /// Why.
        finding: Box<Finding>,
    },
    /// Whoever takes the stream refused it.
    #[error("{finding}")]
    Refused {
        /// Why.
        finding: Box<Finding>,
    },
    /// Something else could not be read or written.
    #[error("input or output failed")]
    Io(#[from] io::Error),
}

impl Error {
    pub(crate) fn notes(what: impl Into<String>) -> Self {
        Self::Notes { what: what.into() }
    }

    pub(crate) fn moved(what: impl Into<String>) -> Self {
        Self::Moved { what: what.into() }
    }
}
