//! What is held before it is read: device state, whose description comes behind it, and packages.

use memchr::memmem;

use crate::body;
use crate::cursor::Cursor;
use crate::description::{DescribedDevice, Description};
use crate::element::{
    COMMAND, DESCRIPTION, END, Event, FOOTER, FULL, LAST, PART, START, SectionHead, SectionKind,
};
use crate::error::{Broken, ReadError, Rule};
use crate::input::{Input, len64};
use crate::plausible;
use crate::reader::{Nesting, STATE_BYTES, Session};
use crate::state;

/// Reads the rest of the stream, from the first section that only the description explains.
pub(crate) fn read(session: &mut Session<'_>, input: &mut Input<'_>) -> Result<(), ReadError> {
    let start = input.offset();
    let mut held = Vec::new();
    let mut search = Search { ahead: session.ahead.take(), ..Search::default() };
    let mut told = 0;
    let found = loop {
        let some = input.some()?;
        if some.is_empty() {
            break None;
        }
        held.extend_from_slice(some);
        let count = some.len();
        input.consume(count);
        let found = search.look(&held, start);
        let certain = found.as_ref().map_or(search.certain(), |(at, _)| at.saturating_sub(1));
        if let Some(new) = held.get(told..certain).filter(|new| !new.is_empty()) {
            session.emit_ahead(new, start.saturating_add(len64(certain)), false)?;
            told = certain;
        }
        if found.is_some() {
            break found;
        }
        if len64(held.len()) > STATE_BYTES {
            let found = len64(held.len());
            return Err(Broken::at(start, Rule::Length).found(found).want(STATE_BYTES).into());
        }
    };
    let own = found.as_ref().map(|(_, description)| description);
    let elements = found.as_ref().map_or(held.len(), |(at, _)| *at);
    let bytes = held.get(..elements).unwrap_or_default();
    let mut part = Part { session, bytes, base: start, own, next: 0, nesting: Nesting::Outer };
    let used = part.elements()?;
    if found.is_some() {
        let rest = held.get(told..).unwrap_or_default();
        session.emit_ahead(rest, start.saturating_add(len64(held.len())), true)?;
    }
    let behind = held.get(used..).unwrap_or_default();
    let at = start.saturating_add(len64(used));
    // What was found has been read: it is not read again where it stands.
    let is_read = found.as_ref().is_some_and(|(at, _)| *at == used);
    let rest = description_behind(session, behind, at, is_read)?;
    trailing(session, rest, at.saturating_add(len64(behind.len().saturating_sub(rest.len()))))?;
    rest_of(session, input)
}

/// Whether all of `bytes` are devices as the description has them, and the end marker.
pub(crate) fn is_described(
    session: &mut Session<'_>,
    bytes: &[u8],
    base: u64,
    description: &Description,
) -> bool {
    session.is_strict = true;
    let own = Some(description);
    let mut part = Part { session, bytes, base, own, next: 0, nesting: Nesting::Outer };
    let used = part.elements();
    used.is_ok_and(|used| used == bytes.len()) && part.next == description.devices.len()
}

/// Reads a package: elements without a description, in `count` bytes.
pub(crate) fn package(
    session: &mut Session<'_>,
    input: &mut Input<'_>,
    count: u64,
) -> Result<(), ReadError> {
    let base = input.offset();
    let bytes = input.vec(count, STATE_BYTES)?;
    let mut part =
        Part { session, bytes: &bytes, base, own: None, next: 0, nesting: Nesting::Package };
    let used = part.elements()?;
    let rest = bytes.get(used..).unwrap_or_default();
    trailing(session, rest, base.saturating_add(len64(used)))?;
    let end = input.offset();
    session.emit(end..end, &Event::PackageEnd)
}

/// What follows the end marker in a stream that held nothing back.
pub(crate) fn after_end(session: &mut Session<'_>, input: &mut Input<'_>) -> Result<(), ReadError> {
    if session.live {
        return Ok(());
    }
    if !input.at_end()? && input.peek_u8()? == DESCRIPTION {
        let start = input.offset();
        input.consume(1);
        let length = input.be32()?;
        let json = input.vec(length.into(), STATE_BYTES)?;
        session.emit(start..input.offset(), &Event::Description { json: &json })?;
    }
    rest_of(session, input)
}

/// Whatever is left of a file, piece by piece.
fn rest_of(session: &mut Session<'_>, input: &mut Input<'_>) -> Result<(), ReadError> {
    while !session.live {
        let start = input.offset();
        let some = input.some()?;
        let count = some.len();
        if count == 0 {
            break;
        }
        trailing(session, some, start)?;
        input.consume(count);
    }
    Ok(())
}

fn trailing(session: &mut Session<'_>, bytes: &[u8], start: u64) -> Result<(), ReadError> {
    if bytes.is_empty() {
        return Ok(());
    }
    session.emit(start..start.saturating_add(len64(bytes.len())), &Event::Trailing(bytes))
}

/// Hands on the description, if it stands at the beginning of `bytes`, and returns what is behind it.
fn description_behind<'b>(
    session: &mut Session<'_>,
    bytes: &'b [u8],
    start: u64,
    is_read: bool,
) -> Result<&'b [u8], ReadError> {
    let mut cursor = Cursor::new(bytes, start);
    if cursor.peek() != Some(DESCRIPTION) {
        return Ok(bytes);
    }
    cursor.u8()?;
    let length = usize::try_from(cursor.be32()?).unwrap_or(usize::MAX);
    let at = cursor.offset();
    let json = cursor.take(length)?;
    if !is_read {
        Description::parse(json, at)?;
    }
    session.emit(start..cursor.offset(), &Event::Description { json })?;
    Ok(cursor.rest())
}

/// Looks for a complete description in bytes as they arrive.
#[derive(Debug, Default)]
struct Search {
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
    /// The index of the first byte behind the end marker, and the description that stands there.
    fn look(&mut self, held: &[u8], base: u64) -> Option<(usize, Description)> {
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
    fn certain(&self) -> usize {
        self.pending.first().copied().unwrap_or(self.from)
    }

    fn description(&mut self, json: &[u8], offset: u64) -> Option<Description> {
        match self.ahead.take_if(|(at, _)| *at == offset) {
            Some((_, description)) => Some(description),
            None => Description::parse(json, offset).ok(),
        }
    }
}

/// Elements that are all held.
struct Part<'p, 's> {
    session: &'p mut Session<'s>,
    bytes: &'p [u8],
    base: u64,
    /// The description of this very stream.
    own: Option<&'p Description>,
    /// Which of the described sections comes next.
    next: usize,
    nesting: Nesting,
}

impl Part<'_, '_> {
    /// Reads all elements; returns how many bytes they take.
    fn elements(&mut self) -> Result<usize, ReadError> {
        let mut source = self.bytes;
        let mut input = Input::new(&mut source, self.base);
        loop {
            if self.nesting == Nesting::Package && input.at_end()? {
                return Ok(self.bytes.len());
            }
            let start = input.offset();
            match input.peek_u8()? {
                END => {
                    input.consume(1);
                    self.session.emit(start..input.offset(), &Event::End)?;
                    return Ok(self.index(input.offset()));
                }
                COMMAND => self.session.command(&mut input, self.nesting)?,
                START | FULL | PART | LAST => self.section(&mut input)?,
                other => return Err(Broken::at(start, Rule::Element).found(other).into()),
            }
        }
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    fn section(&mut self, input: &mut Input<'_>) -> Result<(), ReadError> {
        let start = input.offset();
        let bytes = self.bytes.get(self.index(start)..).unwrap_or_default();
        let mut cursor = Cursor::new(bytes, start);
        let head = self.session.head(&mut cursor)?;
        let length = cursor.offset().saturating_sub(start);
        input.skip(length)?;
        if &*head.name == "ram" {
            return self.session.ram_section(input, start, &head);
        }
        if &*head.name == "dirty-bitmap" && head.kind != SectionKind::Full {
            return self.session.bitmap_section(input, start, &head);
        }
        self.session.emit(start..input.offset(), &Event::Section(&head))?;
        let end = self.body(cursor, &head)?;
        input.skip(end.saturating_sub(input.offset()))?;
        let footer = input.offset();
        if self.session.footers == Some(true) {
            input.skip(5)?;
            let section_id = head.section_id;
            self.session.emit(footer..input.offset(), &Event::Footer { section_id })?;
        }
        Ok(())
    }

    /// Reads a body, of which only the beginning is known; returns where it ends.
    fn body(&mut self, cursor: Cursor<'_>, head: &SectionHead) -> Result<u64, ReadError> {
        let described = self.described(cursor, head);
        let refused = match described? {
            Some(Ok((structure, end))) => {
                self.session.emit(cursor.offset()..end, &Event::Device(&structure))?;
                return Ok(end);
            }
            Some(Err(broken)) if self.session.is_strict => return Err(broken.into()),
            Some(Err(broken)) => Some(broken),
            None => None,
        };
        let next = self.own.and_then(|own| own.devices.get(self.next));
        let length = match (self.session.footers, refused) {
            (Some(false), Some(broken)) => return Err(broken.into()),
            (Some(false), None) => self.rest_without_end(cursor),
            (_, refused) => {
                let found = plausible::body_length(cursor.rest(), head.section_id, next);
                let Some(length) = found else {
                    return Err(refused.unwrap_or_else(|| cursor.broken(Rule::Footer)).into());
                };
                self.session.footers = Some(true);
                length
            }
        };
        self.undescribed(cursor, length, head)
    }

    /// The body as the description has it; `None` if no description speaks of the section.
    #[expect(clippy::type_complexity, reason = "one caller takes it apart at once")]
    fn described(
        &mut self,
        cursor: Cursor<'_>,
        head: &SectionHead,
    ) -> Result<Option<Result<(crate::tree::Structure, u64), Broken>>, ReadError> {
        let of_head = |device: &&DescribedDevice| {
            device.name == head.name && device.instance_id == head.instance_id
        };
        let device = match (self.own, self.session.donor) {
            _ if head.kind != SectionKind::Full => None,
            (Some(own), _) => {
                let device = own.devices.get(self.next).filter(of_head);
                let wrong = || {
                    let at = cursor.offset();
                    Broken::at(at, Rule::DescribedSection).name(&*head.name)
                };
                self.next = self.next.saturating_add(1);
                Some(device.ok_or_else(wrong)?)
            }
            (None, Some(donor)) => donor.devices.iter().find(of_head),
            (None, None) => None,
        };
        Ok(device.map(|device| self.along(cursor, device, head.section_id)))
    }

    fn along(
        &mut self,
        mut cursor: Cursor<'_>,
        device: &DescribedDevice,
        section_id: u32,
    ) -> Result<(crate::tree::Structure, u64), Broken> {
        let structure = body::described(&mut cursor, device)?;
        let end = cursor.offset();
        let there = cursor.peek() == Some(FOOTER);
        if there != self.session.footers.unwrap_or(there) {
            return Err(cursor.broken(Rule::Footer).name(&*device.name));
        }
        if there {
            cursor.u8()?;
            let found = cursor.be32()?;
            if found != section_id {
                let broken = cursor.broken(Rule::Footer).name(&*device.name);
                return Err(broken.found(found).want(section_id));
            }
        }
        self.session.footers = Some(there);
        Ok((structure, end))
    }

    /// All that is left, but for the end marker: without footers and description nothing tells where a body ends.
    fn rest_without_end(&self, cursor: Cursor<'_>) -> usize {
        let rest = cursor.rest();
        let end = self.nesting == Nesting::Outer && rest.last() == Some(&END);
        rest.len().saturating_sub(usize::from(end))
    }

    /// A body whose length is all that is known: virtio devices explain themselves, others stay opaque.
    fn undescribed(
        &mut self,
        cursor: Cursor<'_>,
        length: usize,
        head: &SectionHead,
    ) -> Result<u64, ReadError> {
        let bytes = cursor.rest().get(..length).unwrap_or_default();
        let end = cursor.offset().saturating_add(len64(length));
        let range = cursor.offset()..end;
        match state::undescribed(head, Cursor::new(bytes, cursor.offset())) {
            Some(structure) => self.session.emit(range, &Event::Device(&structure))?,
            None => self.session.emit(range, &Event::Opaque(bytes))?,
        }
        Ok(end)
    }
}
