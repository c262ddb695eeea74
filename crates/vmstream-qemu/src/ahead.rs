//! Where devices begin in a file, seen from its end.
//!
//! ```text
//!  … pages │ end of memory, footer │ device … device │ end marker │ 06, length, description │ end of file
//!                                  ╰──── as long as the description says ────╯
//! ```
//!
//! A guest may hold such bytes in its pages. They are not mistaken for devices: the description says how long each is, so that
//! there is one place only from which they fill the bytes up to the end marker.

use std::ops::Range;

use memchr::memmem;

use crate::description::Description;
use crate::element::{DESCRIPTION, END, Event, FOOTER, FULL};
use crate::input::{Input, len64};
use crate::ram::EOS;
use crate::reader::{Reader, Session};
use crate::tail;

/// Bytes from the end that are looked at, first and if that was not enough; devices of a usual machine and their description
/// take 340 KiB.
const LAST: [u64; 2] = [512 << 10, 4 << 20];
/// Places that are tried.
const PLACES: usize = 4;

/// Devices that are all there.
pub(crate) struct Devices {
    /// Where the first one's section begins.
    pub(crate) start: u64,
    /// Where the description's text begins.
    pub(crate) described_at: u64,
    pub(crate) description: Description,
}

/// The devices behind memory, whose section has that number; nothing if they are not to be found from the end.
pub(crate) fn devices(input: &Input<'_>, memory_id: u32) -> Option<Devices> {
    LAST.into_iter().find_map(|count| {
        let (offset, bytes) = input.last(count)?;
        let (end, text) = description_at(&bytes)?;
        let described_at = offset.saturating_add(len64(text));
        let description = Description::parse(bytes.get(text..)?, described_at).ok()?;
        let elements = bytes.get(..=end)?;
        let start = first(elements, offset, memory_id, &description)?;
        Some(Devices { start: offset.saturating_add(len64(start)), described_at, description })
    })
}

/// Where the end marker stands, and the text of a description that fills the bytes.
fn description_at(bytes: &[u8]) -> Option<(usize, usize)> {
    const HEAD: usize = 6;
    memmem::rfind_iter(bytes, &[END, DESCRIPTION]).find_map(|at| {
        let text = at.checked_add(HEAD)?;
        let length = bytes.get(at.checked_add(2)?..text)?.first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        (text.checked_add(length)? == bytes.len()).then_some((at, text))
    })
}

/// Where the devices begin that fill `elements`, the end marker included.
fn first(elements: &[u8], offset: u64, memory_id: u32, description: &Description) -> Option<usize> {
    let mut seam = EOS.to_be_bytes().to_vec();
    seam.push(FOOTER);
    seam.extend_from_slice(&memory_id.to_be_bytes());
    let length = seam.len();
    seam.push(FULL);
    let places = memmem::rfind_iter(elements, &seam).take(PLACES);
    places.map(|at| at.saturating_add(length)).find(|start| {
        let devices = elements.get(*start..).unwrap_or_default();
        let mut nobody = |_: Range<u64>, _: &Event<'_>| Ok(());
        let reader = Reader::new();
        let mut session = Session::new(&mut nobody, &reader);
        session.footers = Some(true);
        let base = offset.saturating_add(len64(*start));
        tail::is_described(&mut session, devices, base, description)
    })
}
