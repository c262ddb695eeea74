//! Where the data of a sparse member lies.
//!
//! Source: GNU tar manual, appendix "Sparse Formats".

use tar::GnuSparseHeader;

/// A sparse map that describes no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadMap;

/// Collects extents and refuses what no file can be.
#[derive(Debug, Default)]
pub(super) struct MapBuilder {
    extents: Vec<(u64, u64)>,
    end: u64,
    stored: u64,
}

impl MapBuilder {
    /// Adds the next extent; they must come in order. Empty ones only mark the end of the file.
    pub(super) fn add(&mut self, offset: u64, length: u64) -> Result<(), BadMap> {
        if offset < self.end || self.extents.len() >= MAX_EXTENTS {
            return Err(BadMap);
        }
        self.end = offset.checked_add(length).ok_or(BadMap)?;
        self.stored = self.stored.checked_add(length).ok_or(BadMap)?;
        if length > 0 {
            self.extents.push((offset, length));
        }
        Ok(())
    }

    /// Adds the slots of an old-GNU header that are in use.
    pub(super) fn add_gnu(&mut self, slots: &[GnuSparseHeader]) -> Result<(), BadMap> {
        for slot in slots.iter().filter(|slot| !slot.is_empty()) {
            self.add(slot.offset().map_err(|_| BadMap)?, slot.length().map_err(|_| BadMap)?)?;
        }
        Ok(())
    }

    /// The extents, if they fit into a file of `size` bytes of which `stored` are in the archive.
    pub(super) fn finish(self, size: u64, stored: u64) -> Result<Vec<(u64, u64)>, BadMap> {
        if self.end > size || self.stored != stored { Err(BadMap) } else { Ok(self.extents) }
    }
}

/// Extents of one member; a map of this many takes 16 MiB.
const MAX_EXTENTS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_overruns_and_missing_bytes_are_refused() {
        let mut map = MapBuilder::default();
        map.add(4096, 512).expect("in order");
        assert_eq!(map.add(4000, 1), Err(BadMap));
        assert_eq!(map.add(u64::MAX, 2), Err(BadMap));

        let built = |size, stored| {
            let mut map = MapBuilder::default();
            map.add(4096, 512).expect("in order");
            map.finish(size, stored)
        };
        assert_eq!(built(4608, 512), Ok(vec![(4096, 512)]));
        assert_eq!(built(4607, 512), Err(BadMap));
        assert_eq!(built(4608, 1024), Err(BadMap));
    }
}
