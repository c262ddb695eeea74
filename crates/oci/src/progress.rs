//! What a pull says while it runs.

use crate::digest::Digest;

/// One step of a pull. Comes from several threads; for one layer, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The layer, config or manifest; `None` for the image as a whole.
    pub digest: Option<Digest>,
    /// What happens to it.
    pub phase: Phase,
    /// How much of it is done. Unit: bytes.
    pub done: u64,
    /// How much there is in all, zero if that is not known. Unit: bytes.
    pub total: u64,
}

/// What happens to a layer or to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It waits for its turn, for a registry that asked for patience, or for another process that pulls the same.
    Waiting,
    /// It is being downloaded or copied.
    Pulling,
    /// All of it is there and its digest is compared.
    Verifying,
    /// It was there already.
    Exists,
    /// It is verified and stored.
    Pulled,
    /// It is being written into the base image.
    Building,
    /// The image is there.
    Done,
}

/// Where a pull says what it does.
pub type Report<'a> = dyn Fn(Progress) + Sync + 'a;
