//! Streams whose absent pages are in a parent, and what becomes of memory when they are applied in order.
//!
//! A page that no frame of a stream says anything about is zero if the stream has no parent, and what it is in the parent if
//! it has one. So a chain is read by applying its streams from the first to the last, each over what the ones before left.

use crate::broken::Broken;
use crate::message::{Manifest, Pages, RunKind};
use crate::rule::Rule;

/// Memory, or disks, that pages are applied to.
pub trait PageStore {
    /// Why a page could not be read or written.
    type Error;

    /// Writes pages, from `first` on.
    ///
    /// # Errors
    ///
    /// As the store has it.
    fn write(&mut self, region: u32, first: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// Makes pages zero.
    ///
    /// # Errors
    ///
    /// As the store has it.
    fn zero(&mut self, region: u32, first: u64, count: u64) -> Result<(), Self::Error>;

    /// Makes pages the same as one other.
    ///
    /// # Errors
    ///
    /// As the store has it.
    fn same(&mut self, region: u32, first: u64, count: u64, page: u64) -> Result<(), Self::Error>;
}

/// Why pages were not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E> {
    /// The frame does not hold what it says.
    #[error("the pages do not decode")]
    Pages(#[source] Broken),
    /// The store failed.
    #[error("the store took no pages")]
    Store(#[source] E),
}

/// Applies a frame of pages that a [`crate::Reader`] checked. Absent pages stay as they are.
///
/// # Errors
///
/// [`ApplyError`]
pub fn apply<S: PageStore>(
    pages: &Pages,
    page_size: usize,
    store: &mut S,
) -> Result<(), ApplyError<S::Error>> {
    let (data, region) = (pages.data().map_err(ApplyError::Pages)?, pages.region());
    let mut left = data.as_ref();
    for run in pages.runs() {
        match run.kind {
            RunKind::Data => {
                let count = usize::try_from(run.count).unwrap_or(usize::MAX);
                let piece = left.split_at_checked(count.saturating_mul(page_size));
                let (piece, rest) =
                    piece.ok_or_else(|| ApplyError::Pages(Broken::new(Rule::P3)))?;
                left = rest;
                store.write(region, run.first, piece).map_err(ApplyError::Store)?;
            }
            RunKind::Zero => {
                store.zero(region, run.first, run.count).map_err(ApplyError::Store)?;
            }
            RunKind::SameAs(_) | RunKind::Absent => {}
        }
    }
    for run in pages.runs() {
        if let RunKind::SameAs(page) = run.kind {
            store.same(region, run.first, run.count, page).map_err(ApplyError::Store)?;
        }
    }
    Ok(())
}

/// Checks that a stream goes on from another.
///
/// # Errors
///
/// [`Rule::K1`] or [`Rule::K2`].
pub fn check_link(
    parent: &Manifest,
    parent_digest: &[u8; 32],
    child: &Manifest,
) -> Result<(), Broken> {
    let named = child.parent.as_ref().map(|parent| &parent.digest);
    if named != Some(parent_digest) {
        return Err(Broken::new(Rule::K1).path("parent"));
    }
    match () {
        () if parent.page_size != child.page_size => Err(Broken::new(Rule::K2).path("page_size")),
        () if parent.memory != child.memory => Err(Broken::new(Rule::K2).path("memory")),
        () if parent.disks != child.disks => Err(Broken::new(Rule::K2).path("disks")),
        () => Ok(()),
    }
}
