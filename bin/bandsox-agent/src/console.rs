//! What the agent has to say to whoever reads the console: one line a boot, and few more, for when something is wrong.

/// Writes one line to the console, marked as ours.
#[expect(clippy::print_stderr, reason = "standard error is the console, and there is no other log")]
pub(crate) fn say(line: &str) {
    eprintln!("bandsox-agent: {line}");
}
