//! Contracts of real QEMUs, compared.

#![expect(clippy::print_stderr, reason = "what was found is shown with --nocapture")]

#[expect(dead_code, unused_imports, reason = "this needs the programs alone, not guests that run")]
#[path = "../../../vmstream-qemu/tests/it/bed/mod.rs"]
mod bed;
mod cases;
#[expect(dead_code, reason = "others use the rest of it")]
mod machine;
mod verdicts;
