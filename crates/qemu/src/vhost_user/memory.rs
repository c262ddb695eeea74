//! Guest memory as QEMU describes it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::SealFlags;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// The guest's memory, and where QEMU has mapped it.
#[derive(Clone, Debug)]
pub(super) struct MemoryTable {
    pub(super) guest: Arc<GuestMemoryMmap>,
    places: Vec<Place>,
}

/// One region in QEMU's address space.
#[derive(Clone, Copy, Debug)]
struct Place {
    qemu: u64,
    guest: u64,
    bytes: u64,
}

/// Why a memory table was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The file could shrink under the mapping.
    #[error("memory region {region} is not a memfd sealed against shrinking")]
    NotSealed {
        /// Number of the region.
        region: usize,
    },
    /// The region does not lie in its file.
    #[error(
        "memory region {region} covers bytes {offset}..+{bytes} of a file of {file_bytes} bytes"
    )]
    BeyondFile {
        /// Number of the region.
        region: usize,
        /// Where it begins in the file.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// The file's.
        file_bytes: u64,
    },
    /// It could not be mapped.
    #[error("could not map memory region {region}")]
    Map {
        /// Number of the region.
        region: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// Regions overlap, or there is none.
    #[error("the memory regions do not form an address space")]
    Layout(#[source] vm_memory::GuestRegionCollectionError),
}

impl MemoryTable {
    /// Maps what QEMU describes.
    pub(super) fn map(
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
    ) -> Result<Self, MemoryError> {
        let mut mapped = Vec::with_capacity(regions.len());
        let mut places = Vec::with_capacity(regions.len());
        let mut pairs: Vec<_> = regions.iter().zip(files).enumerate().collect();
        pairs.sort_by_key(|(_, (region, _))| region.guest_phys_addr);
        for (number, (region, file)) in pairs {
            check(number, region, &file)?;
            let fail = |source| MemoryError::Map { region: number, source };
            let bytes = usize::try_from(region.memory_size)
                .map_err(|_| fail(io::ErrorKind::InvalidInput.into()))?;
            let mapping = MmapRegion::from_file(FileOffset::new(file, region.mmap_offset), bytes)
                .map_err(|error| fail(io::Error::other(error)))?;
            let mapping = GuestRegionMmap::new(mapping, GuestAddress(region.guest_phys_addr))
                .ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
            mapped.push(mapping);
            places.push(Place {
                qemu: region.user_addr,
                guest: region.guest_phys_addr,
                bytes: region.memory_size,
            });
        }
        let guest = GuestMemoryMmap::from_regions(mapped).map_err(MemoryError::Layout)?;
        Ok(Self { guest: Arc::new(guest), places })
    }

    /// The guest address of what QEMU has at `address`.
    pub(super) fn guest_address(&self, address: u64) -> Option<u64> {
        self.places.iter().find_map(|place| {
            let inside = address.checked_sub(place.qemu)?;
            if inside < place.bytes { place.guest.checked_add(inside) } else { None }
        })
    }
}

/// Touching a mapping behind the end of its file raises a signal that ends the process: the file
/// must be long enough, and stay so.
fn check(number: usize, region: &VhostUserMemoryRegion, file: &File) -> Result<(), MemoryError> {
    let seals = rustix::fs::fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    if !seals.contains(SealFlags::SHRINK) {
        return Err(MemoryError::NotSealed { region: number });
    }
    let (offset, bytes) = (region.mmap_offset, region.memory_size);
    let file_bytes =
        file.metadata().map_err(|source| MemoryError::Map { region: number, source })?.len();
    if offset.checked_add(bytes).is_none_or(|end| end > file_bytes) {
        return Err(MemoryError::BeyondFile { region: number, offset, bytes, file_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::fs::MemfdFlags;

    use super::*;

    fn memfd(bytes: u64, seals: SealFlags) -> File {
        let fd: OwnedFd =
            rustix::fs::memfd_create(c"test", MemfdFlags::ALLOW_SEALING).expect("a memfd");
        rustix::fs::ftruncate(&fd, bytes).expect("its size");
        rustix::fs::fcntl_add_seals(&fd, seals).expect("its seals");
        fd.into()
    }

    fn region(guest: u64, bytes: u64, qemu: u64, offset: u64) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion::new(guest, bytes, qemu, offset)
    }

    #[test]
    fn an_address_of_qemu_is_found_in_its_region_and_nowhere_else() {
        let files = vec![memfd(0x4000, SealFlags::SHRINK), memfd(0x4000, SealFlags::SHRINK)];
        let regions =
            [region(0, 0x2000, 0x7000_0000, 0), region(0x10_0000, 0x2000, 0x9000_0000, 0x2000)];

        let table = MemoryTable::map(&regions, files).expect("a good table");

        assert_eq!(table.guest_address(0x7000_0010), Some(0x10));
        assert_eq!(table.guest_address(0x9000_1fff), Some(0x10_1fff));
        assert_eq!(table.guest_address(0x9000_2000), None);
        assert_eq!(table.guest_address(0x6fff_ffff), None);
    }

    #[test]
    fn memory_that_could_shrink_is_refused() {
        let refusal =
            MemoryTable::map(&[region(0, 0x2000, 0, 0)], vec![memfd(0x4000, SealFlags::GROW)]);

        assert!(matches!(refusal, Err(MemoryError::NotSealed { region: 0 })));
    }

    #[test]
    fn a_region_that_passes_its_file_is_refused() {
        let sealed = || vec![memfd(0x4000, SealFlags::SHRINK)];

        for (bytes, offset) in [(0x4001, 0), (0x2000, 0x2001), (0x2000, u64::MAX - 0xfff)] {
            let refusal = MemoryTable::map(&[region(0, bytes, 0, offset)], sealed());
            assert!(matches!(refusal, Err(MemoryError::BeyondFile { .. })), "{bytes} {offset}");
        }
    }

    #[test]
    fn regions_that_overlap_are_refused() {
        let files = vec![memfd(0x4000, SealFlags::SHRINK), memfd(0x4000, SealFlags::SHRINK)];

        let refusal =
            MemoryTable::map(&[region(0, 0x2000, 0, 0), region(0x1000, 0x2000, 0x8000, 0)], files);

        assert!(matches!(refusal, Err(MemoryError::Layout(_))));
    }
}
