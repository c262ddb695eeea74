//! What the agent has to say to whoever reads the console: one line a boot, and few more, for when something is wrong.

/// Writes one line to the console, marked as ours.
#[expect(clippy::print_stderr, reason = "standard error is the console, and there is no other log")]
pub(crate) fn say(line: &str) {
    eprintln!("bandsox-agent: {line}");
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
