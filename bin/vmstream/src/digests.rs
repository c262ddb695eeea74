//! Memory put together from a stream's pages, as a digest of each, and where two differ.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use vmstream::Reader;
use vmstream::chain::PageStore;
use vmstream::message::Ram;

use crate::input::Source;

/// Pages whose digests lie together.
const GROUP: u64 = 512;

/// A digest of each page, of any number of regions. What was never sent takes no space.
#[derive(Default)]
pub(crate) struct Digests {
    page: usize,
    groups: BTreeMap<(u32, u64), Box<[u64]>>,
    /// The digest of a page that no frame mentions.
    background: u64,
}

/// The digest of a page of zeros, and of one that is in the parent.
const ZERO: u64 = 0;
const ABSENT: u64 = 1;

impl Digests {
    pub(crate) fn new(page_size: u64, has_parent: bool) -> Self {
        let page = usize::try_from(page_size).unwrap_or(4096).max(1);
        let background = if has_parent { ABSENT } else { ZERO };
        Self { page, groups: BTreeMap::new(), background }
    }

    fn get(&self, region: u32, page: u64) -> u64 {
        let group = self.groups.get(&(region, page / GROUP));
        let at = usize::try_from(page % GROUP).unwrap_or(0);
        group.and_then(|group| group.get(at)).copied().unwrap_or(self.background)
    }

    fn set(&mut self, region: u32, page: u64, digest: u64) {
        let key = (region, page / GROUP);
        if digest == self.background && !self.groups.contains_key(&key) {
            return;
        }
        let background = self.background;
        let size = usize::try_from(GROUP).unwrap_or(512);
        let group =
            self.groups.entry(key).or_insert_with(|| vec![background; size].into_boxed_slice());
        if let Some(entry) = group.get_mut(usize::try_from(page % GROUP).unwrap_or(0)) {
            *entry = digest;
        }
    }

    fn fill(&mut self, region: u32, first: u64, count: u64, digest: u64) {
        let end = first.saturating_add(count);
        if digest != self.background {
            (first..end).for_each(|page| self.set(region, page, digest));
            return;
        }
        // However long the run is, only what is there needs to be changed.
        let groups = (region, first / GROUP)..=(region, end / GROUP);
        for ((_, group), entries) in self.groups.range_mut(groups) {
            for (page, entry) in (group.saturating_mul(GROUP)..).zip(entries.iter_mut()) {
                if (first..end).contains(&page) {
                    *entry = digest;
                }
            }
        }
    }

    /// Notes pages that are in the parent, if that has not been read.
    pub(crate) fn absent(&mut self, region: u32, first: u64, count: u64) {
        if self.background == ABSENT {
            self.fill(region, first, count, ABSENT);
        }
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
            self.set(ram.region, page, digest(buffer.get(..got).unwrap_or_default()));
            page = page.saturating_add(1);
        }
    }

    /// Where a region's pages differ. `same_parent` is whether pages that both sides lack are the same.
    pub(crate) fn differences(
        &self,
        other: &Self,
        region: u32,
        pages: u64,
        same_parent: bool,
    ) -> Differences {
        let mut found = Differences { runs: Vec::new(), unknown: 0, same_parent };
        let of = |side: &Self| {
            let keys = side.groups.range((region, 0)..=(region, u64::MAX));
            keys.map(|((_, group), _)| *group).collect::<Vec<_>>()
        };
        let mut groups = [of(self), of(other)].concat();
        groups.sort_unstable();
        groups.dedup();
        let mut done = 0;
        for group in groups {
            let begin = group.saturating_mul(GROUP);
            found.note(done, begin.saturating_sub(done), self.background, other.background);
            done = begin.saturating_add(GROUP).min(pages);
            for page in begin..done {
                found.note(page, 1, self.get(region, page), other.get(region, page));
            }
        }
        found.note(done, pages.saturating_sub(done), self.background, other.background);
        found
    }
}

/// Where two sides differ in a region.
pub(crate) struct Differences {
    /// Pages, ascending: the first, and how many.
    pub(crate) runs: Vec<(u64, u64)>,
    /// Pages that one side does not have itself, so that nobody can tell.
    pub(crate) unknown: u64,
    same_parent: bool,
}

impl Differences {
    fn note(&mut self, first: u64, count: u64, one: u64, other: u64) {
        if one == ABSENT || other == ABSENT {
            if one != other || !self.same_parent {
                self.unknown = self.unknown.saturating_add(count);
            }
        } else if one != other && count > 0 {
            match self.runs.last_mut() {
                Some((last, length)) if last.saturating_add(*length) == first => *length += count,
                _ => self.runs.push((first, count)),
            }
        }
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
    type Error = std::convert::Infallible;

    fn write(&mut self, region: u32, first: u64, data: &[u8]) -> Result<(), Self::Error> {
        for (page, bytes) in (first..).zip(data.chunks(self.page)) {
            self.set(region, page, digest(bytes));
        }
        Ok(())
    }

    fn zero(&mut self, region: u32, first: u64, count: u64) -> Result<(), Self::Error> {
        self.fill(region, first, count, ZERO);
        Ok(())
    }

    fn same(&mut self, region: u32, first: u64, count: u64, page: u64) -> Result<(), Self::Error> {
        let digest = self.get(region, page);
        self.fill(region, first, count, digest);
        Ok(())
    }
}
