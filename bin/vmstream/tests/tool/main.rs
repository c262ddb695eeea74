//! The program, run on real files.

#[path = "../../../../crates/vmstream/tests/format/sample.rs"]
mod sample;

#[path = "../../../../crates/vmstream-qemu/tests/it/bed/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod real;

mod bed;
mod bridge;
mod chains;
mod contracts;
mod forms;
mod guests;
mod hostile;
mod looks;
mod order;
mod qemu;
mod sets;
