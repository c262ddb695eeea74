//! The reader and the writer against what QEMU wrote.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks at the few kinds of events that it is about"
)]
#![expect(clippy::print_stderr, reason = "what was measured is shown with --nocapture")]

#[expect(dead_code, reason = "tests of other crates use the rest of it")]
mod bed;
mod captures;
mod fixtures;
mod hostile;
mod mixes;
mod multifd;
mod rules;
mod state;
mod stream;
