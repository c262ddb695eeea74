//! How much an image may hold.

/// Bounds on what an image may hold, and on what building it may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most files, directories and other names in all.
    pub entries: u64,
    /// Largest single file, in bytes as the guest sees it (holes included); at most 16 TiB works.
    pub file_bytes: u64,
    /// Largest image, in bytes.
    pub image_bytes: u64,
    /// Most bytes of names, link targets, extended attributes and small file contents, which are held in memory.
    pub metadata_bytes: u64,
}
