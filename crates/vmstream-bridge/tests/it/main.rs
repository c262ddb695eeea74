//! Guests that move between real QEMUs.

#![expect(clippy::print_stderr, reason = "what was said is shown with --nocapture")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at the news that it is about")]

#[path = "../../../vmstream-qemu/tests/it/bed/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod bed;
mod breaks;
#[path = "../../../vmstream-qmp/tests/it/cases.rs"]
mod cases;
#[path = "../../../vmstream-qmp/tests/it/machine.rs"]
#[expect(dead_code, reason = "contracts are read by what is tested")]
mod machine;
mod moves;
mod refusals;
mod sides;
