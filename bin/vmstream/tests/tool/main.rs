//! The program, run on real files.

#[path = "../../../../crates/vmstream/tests/format/sample.rs"]
mod sample;

mod bed;
mod chains;
mod contracts;
mod forms;
mod hostile;
mod looks;
mod order;
mod qemu;
mod sets;
