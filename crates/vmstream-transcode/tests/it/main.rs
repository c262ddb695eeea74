//! QEMU's streams as ours and back.

#![expect(clippy::print_stderr, reason = "what was measured is shown with --nocapture")]

mod ahead;
#[path = "../../../vmstream-qemu/tests/it/bed/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod bed;
mod captures;
mod differences;
mod elsewhere;
mod fixtures;
mod hostile;
mod measure;
mod notes;
#[path = "../../../vmstream/tests/format/python.rs"]
mod python;
mod sets;
