//! The reader and the writer against what QEMU wrote.

mod fixtures;
mod stream;
