//! Memory put together from a stream's pages, as a digest of each, and where two differ.

mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;

use vmstream::Reader;
use vmstream::chain::PageStore;
use vmstream::message::Ram;

use crate::digests::table::{GROUP, Table};
use crate::input::Source;

/// Groups of digests that are held: 8 MiB of them, for 4 GiB of the usual pages.
const HELD: u64 = 2048;

/// A digest of each page, of any number of regions. What was never sent takes no space.
pub(crate) struct Digests {
    page: usize,
    table: Table,
    /// The digest of a page that no frame mentions.
    background: u64,
}

/// The digest of a page of zeros, and of one that is in the parent.
const ZERO: u64 = 0;
const ABSENT: u64 = 1;

impl Digests {
    pub(crate) fn new(page_size: u64, has_parent: bool) -> Self {
        Self::holding(HELD, page_size, has_parent)
    }

    fn holding(groups: u64, page_size: u64, has_parent: bool) -> Self {
        let page = usize::try_from(page_size).unwrap_or(4096).max(1);
        let background = if has_parent { ABSENT } else { ZERO };
        Self { page, table: Table::new(groups), background }
    }

    fn get(&self, region: u32, page: u64) -> io::Result<u64> {
        let at = usize::try_from(page % GROUP).unwrap_or(0);
        let found = self.table.entry((region, page / GROUP), at)?;
        Ok(found.unwrap_or(self.background))
    }

    fn set(&mut self, region: u32, page: u64, digest: u64) -> io::Result<()> {
        let key = (region, page / GROUP);
        if digest == self.background && !self.table.has(key) {
            return Ok(());
        }
        let group = self.table.group_mut(key, self.background)?;
        if let Some(entry) = group.get_mut(usize::try_from(page % GROUP).unwrap_or(0)) {
            *entry = digest;
        }
        Ok(())
    }

    fn fill(&mut self, region: u32, first: u64, count: u64, digest: u64) -> io::Result<()> {
        let end = first.saturating_add(count);
        if digest != self.background {
            return (first..end).try_for_each(|page| self.set(region, page, digest));
        }
        // However long the run is, only what is there needs to be changed.
        for group in self.table.groups(region, first / GROUP..=end / GROUP) {
            let entries = self.table.group_mut((region, group), digest)?;
            for (page, entry) in (group.saturating_mul(GROUP)..).zip(entries) {
                if (first..end).contains(&page) {
                    *entry = digest;
                }
            }
        }
        Ok(())
    }

    /// Notes pages that are in the parent, if that has not been read.
    pub(crate) fn absent(&mut self, region: u32, first: u64, count: u64) -> io::Result<()> {
        if self.background == ABSENT { self.fill(region, first, count, ABSENT) } else { Ok(()) }
    }

    /// Takes the bytes of a ram frame.
    pub(crate) fn take(&mut self, reader: &mut Reader<Source>, ram: &Ram) -> anyhow::Result<()> {
        let mut buffer = vec![0; self.page];
        let mut page = ram.offset / u64::try_from(self.page).unwrap_or(1).max(1);
        loop {
            let mut got = 0;
            while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
                let more = reader.read_ram(rest)?;
                if more == 0 {
                    break;
                }
                got = got.saturating_add(more);
            }
            if got == 0 {
                return Ok(());
            }
            self.set(ram.region, page, digest(buffer.get(..got).unwrap_or_default()))?;
            page = page.saturating_add(1);
        }
    }

    /// Tells `each` where a region's pages differ, ascending: the first of a run, and how many. Returns how many pages one side does
    /// not have itself, so that nobody can tell. `same_parent` is whether pages that both sides lack are the same.
    pub(crate) fn differences(
        &self,
        other: &Self,
        region: u32,
        pages: u64,
        same_parent: bool,
        each: &mut dyn FnMut(u64, u64) -> io::Result<()>,
    ) -> io::Result<u64> {
        let mut found = Differences { each, run: None, unknown: 0, same_parent };
        let of = |side: &Self| side.table.groups(region, 0..=u64::MAX);
        let mut groups = [of(self), of(other)].concat();
        groups.sort_unstable();
        groups.dedup();
        let mut done = 0;
        for group in groups {
            let begin = group.saturating_mul(GROUP);
            found.note(done, begin.saturating_sub(done), self.background, other.background)?;
            done = begin.saturating_add(GROUP).min(pages);
            let (mine, theirs) = (self.group(region, group)?, other.group(region, group)?);
            for (page, (one, another)) in (begin..done).zip(mine.iter().zip(theirs.iter())) {
                found.note(page, 1, *one, *another)?;
            }
        }
        found.note(done, pages.saturating_sub(done), self.background, other.background)?;
        found.tell()?;
        Ok(found.unknown)
    }

    fn group(&self, region: u32, group: u64) -> io::Result<Cow<'_, [u64]>> {
        let background = || vec![self.background; usize::try_from(GROUP).unwrap_or(512)].into();
        Ok(self.table.group((region, group))?.unwrap_or_else(background))
    }
}

/// Where two sides differ in a region. There may be as many runs as pages, so that none but the last is held.
struct Differences<'e> {
    each: &'e mut dyn FnMut(u64, u64) -> io::Result<()>,
    /// The first page, and how many.
    run: Option<(u64, u64)>,
    unknown: u64,
    same_parent: bool,
}

impl Differences<'_> {
    fn note(&mut self, first: u64, count: u64, one: u64, other: u64) -> io::Result<()> {
        if one == ABSENT || other == ABSENT {
            if one != other || !self.same_parent {
                self.unknown = self.unknown.saturating_add(count);
            }
        } else if one != other && count > 0 {
            if let Some((begin, length)) = &mut self.run
                && begin.saturating_add(*length) == first
            {
                *length = length.saturating_add(count);
                return Ok(());
            }
            self.tell()?;
            self.run = Some((first, count));
        }
        Ok(())
    }

    fn tell(&mut self) -> io::Result<()> {
        self.run.take().map_or(Ok(()), |(first, count)| (self.each)(first, count))
    }
}

fn digest(page: &[u8]) -> u64 {
    if vmstream::is_zero(page) {
        return ZERO;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(page);
    // Two values mean something else.
    hasher.finish().max(2)
}

impl PageStore for Digests {
    type Error = io::Error;

    fn write(&mut self, region: u32, first: u64, data: &[u8]) -> io::Result<()> {
        let mut pages = (first..).zip(data.chunks(self.page));
        pages.try_for_each(|(page, bytes)| self.set(region, page, digest(bytes)))
    }

    fn zero(&mut self, region: u32, first: u64, count: u64) -> io::Result<()> {
        self.fill(region, first, count, ZERO)
    }

    fn same(&mut self, region: u32, first: u64, count: u64, page: u64) -> io::Result<()> {
        let digest = self.get(region, page)?;
        self.fill(region, first, count, digest)
    }
}
