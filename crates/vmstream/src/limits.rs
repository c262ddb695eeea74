//! What no input may exceed.
//!
//! A reader's memory follows from these: what it holds at once stays below 64 MiB whatever it reads.

/// How deep lists and maps nest.
pub const DEPTH: usize = 32;
/// Keys of one map.
pub const KEYS: usize = 65_536;
/// Values in one payload, those inside of others counted.
pub const VALUES: usize = 262_144;
/// Bytes of a payload of metadata, compressed or not.
pub const METADATA: u64 = 1 << 20;
/// Bytes of device records in one stream, inflated.
pub const DEVICE_STATE: u64 = 64 << 20;
/// Device records in one stream.
pub const DEVICES: u64 = 65_536;
/// Schemas in one stream.
pub const SCHEMAS: usize = 4096;
/// Bytes of all schemas of one stream.
pub const SCHEMA_BYTES: u64 = 4 << 20;
/// Values in all schemas of one stream.
pub const SCHEMA_VALUES: usize = 262_144;
/// Bytes of pages in one frame, decoded.
pub const PAGE_DATA: usize = 4 << 20;
/// Runs in one frame of pages.
pub const RUNS: usize = 32_768;
/// Bytes of a frame of pages: the data, where they are stored, and the runs.
pub const PAGES: u64 = (4 << 20) + (2 << 20);
/// Chunks of one ram frame.
pub const CHUNKS: u64 = 131_072;
/// Bytes of filler in one pad frame.
pub const PAD: u64 = 4 << 20;
/// Bytes of a path.
pub const PATH: usize = 255;
