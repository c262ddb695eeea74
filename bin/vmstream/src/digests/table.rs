//! Groups of digests, of which so many are held at most; the others are in a file without a name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;

/// Digests of a group.
pub(super) const GROUP: u64 = 512;
/// Bytes of a group.
const BYTES: u64 = GROUP * 8;

/// The number of a region, and of a group of its pages.
pub(super) type Key = (u32, u64);

/// Groups by what they are of.
pub(super) struct Table {
    /// Which group each is, counted as they came: streams go through memory in order, so those that came together are asked for
    /// together.
    places: BTreeMap<Key, u64>,
    /// A group is held at its place, modulo `most`, or is in the file.
    held: Vec<Held>,
    most: u64,
    file: Option<File>,
}

struct Held {
    place: u64,
    entries: Box<[u64]>,
}

impl Table {
    /// Holds so many groups, and at least one.
    pub(super) fn new(most: u64) -> Self {
        Self { places: BTreeMap::new(), held: Vec::new(), most: most.max(1), file: None }
    }

    /// The groups of a region, ascending.
    pub(super) fn groups(&self, region: u32, within: RangeInclusive<u64>) -> Vec<u64> {
        let keys = self.places.range((region, *within.start())..=(region, *within.end()));
        keys.map(|((_, group), _)| *group).collect()
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.places.contains_key(&key)
    }

    /// One digest of a group that is there.
    pub(super) fn entry(&self, key: Key, at: usize) -> io::Result<Option<u64>> {
        let Some(place) = self.places.get(&key) else { return Ok(None) };
        if let Some(held) = self.held_at(*place) {
            return Ok(held.entries.get(at).copied());
        }
        let mut bytes = [0; 8];
        let offset = u64::try_from(at).unwrap_or(0).saturating_mul(8);
        self.read(&mut bytes, place.saturating_mul(BYTES).saturating_add(offset))?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// A group that is there.
    pub(super) fn group(&self, key: Key) -> io::Result<Option<Cow<'_, [u64]>>> {
        let Some(place) = self.places.get(&key) else { return Ok(None) };
        if let Some(held) = self.held_at(*place) {
            return Ok(Some(Cow::Borrowed(&held.entries)));
        }
        Ok(Some(Cow::Owned(self.load(*place)?)))
    }

    /// A group to be changed, which is made of that digest if it is not there.
    pub(super) fn group_mut(&mut self, key: Key, background: u64) -> io::Result<&mut [u64]> {
        let next = u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        let place = *self.places.entry(key).or_insert(next);
        if self.held_at(place).is_none() {
            let entries = if place == next {
                vec![background; usize::try_from(GROUP).unwrap_or(512)]
            } else {
                self.load(place)?
            };
            self.hold(Held { place, entries: entries.into() })?;
        }
        let index = self.index(place);
        let held = self.held.get_mut(index).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut held.entries)
    }

    fn index(&self, place: u64) -> usize {
        usize::try_from(place.checked_rem(self.most).unwrap_or(0)).unwrap_or(0)
    }

    fn held_at(&self, place: u64) -> Option<&Held> {
        self.held.get(self.index(place)).filter(|held| held.place == place)
    }

    /// Holds a group, and writes the one that is held in its place to the file.
    fn hold(&mut self, new: Held) -> io::Result<()> {
        let index = self.index(new.place);
        let Some(old) = self.held.get_mut(index) else {
            self.held.push(new);
            return Ok(());
        };
        let bytes: Vec<u8> = old.entries.iter().flat_map(|each| each.to_le_bytes()).collect();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        // What is held was asked for to be changed.
        file.write_all_at(&bytes, old.place.saturating_mul(BYTES))?;
        *old = new;
        Ok(())
    }

    fn load(&self, place: u64) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; usize::try_from(BYTES).unwrap_or(4096)];
        self.read(&mut bytes, place.saturating_mul(BYTES))?;
        Ok(bytes.as_chunks().0.iter().map(|each| u64::from_le_bytes(*each)).collect())
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(bytes, offset)
    }

    /// Groups that are held, and whether there is a file.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, bool) {
        (self.held.len(), self.file.is_some())
    }
}
