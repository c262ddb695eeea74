//! The reader and the writer against what QEMU wrote.

mod bed;
mod captures;
mod fixtures;
mod hostile;
mod multifd;
mod stream;
