//! How much an image may cost.

/// Bounds on what an untrusted archive or directory may make us build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most files, directories and other names in all.
    pub entries: u64,
    /// Largest single file, in bytes as the guest sees it (holes included); at most 16 TiB works.
    pub file_bytes: u64,
    /// Most bytes that are read out of an archive, after decompression.
    pub source_bytes: u64,
    /// Largest image, in bytes.
    pub image_bytes: u64,
    /// Most bytes of names, link targets, extended attributes and small file contents, which are held in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    /// 4 million names, files of 16 TiB, 256 GiB read, an image of 64 GiB, 1 GiB of metadata.
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            file_bytes: 16 << 40,
            source_bytes: 256 << 30,
            image_bytes: 64 << 30,
            metadata_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// The part that bounds the image itself.
    pub(crate) fn of_image(&self) -> bandsox_erofs::Limits {
        let Self { entries, file_bytes, source_bytes: _, image_bytes, metadata_bytes } = *self;
        bandsox_erofs::Limits { entries, file_bytes, image_bytes, metadata_bytes }
    }
}
