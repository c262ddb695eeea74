//! The storage directory: metadata, allocators, locks.
