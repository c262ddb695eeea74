//! Where the end marker is: before the description, which says what stands before it.

use memchr::memmem;

use crate::cursor::Cursor;
use crate::description::Description;
use crate::element::{DESCRIPTION, END};
use crate::input::len64;

/// Looks for a complete description in bytes as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Search {
    from: usize,
    /// Where descriptions may have begun that were not complete yet.
    pending: Vec<usize>,
    /// A description that has been read, and where it stands.
    ahead: Option<(u64, Description)>,
}

/// Possible beginnings that are followed; there is one in a real stream. However many a device holds, the newest are enough: one that
/// is not complete when the next begins would have that beginning in its text, where no control character can be.
const PENDING: usize = 8;

impl Search {
    /// `ahead` is a description that has been read, and where it stands.
    pub(crate) fn new(ahead: Option<(u64, Description)>) -> Self {
        Self { ahead, ..Self::default() }
    }

    /// The index of the first byte behind the end marker, and the description that stands there.
    pub(crate) fn look(&mut self, held: &[u8], base: u64) -> Option<(usize, Description)> {
        let rest = held.get(self.from..).unwrap_or_default();
        let ready = held.len().saturating_sub(7);
        let from = self.from;
        self.from = ready.max(from);
        let new = memmem::find_iter(rest, &[END, DESCRIPTION]).map(|at| from.saturating_add(at));
        let begins = |at: &usize| *at < ready && held.get(at.saturating_add(6)) == Some(&b'{');
        for at in std::mem::take(&mut self.pending).into_iter().chain(new.filter(begins)) {
            let behind = at.saturating_add(1);
            let mut cursor =
                Cursor::new(held.get(behind.saturating_add(1)..).unwrap_or_default(), 0);
            let Ok(length) = cursor.be32() else { continue };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            match cursor.take(length) {
                Ok(json) => {
                    let offset = base.saturating_add(len64(behind)).saturating_add(5);
                    if let Some(description) = self.description(json, offset) {
                        return Some((behind, description));
                    }
                }
                Err(_) => {
                    if self.pending.len() >= PENDING {
                        self.pending.remove(0);
                    }
                    self.pending.push(at);
                }
            }
        }
        None
    }

    /// How many bytes of all that was looked at stand before the end marker for certain.
    pub(crate) fn certain(&self) -> usize {
        self.pending.first().copied().unwrap_or(self.from)
    }

    fn description(&mut self, json: &[u8], offset: u64) -> Option<Description> {
        match self.ahead.take_if(|(at, _)| *at == offset) {
            Some((_, description)) => Some(description),
            None => Description::parse(json, offset).ok(),
        }
    }
}
