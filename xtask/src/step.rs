//! Steps that a person watches: what is being done, how long it took, what failed.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Prints what is about to be done, does it, and prints how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    note(&format!("==> {what}"));
    let start = Instant::now();
    let done = work().with_context(|| format!("failed: {what}"))?;
    note(&format!("    {:.1} s", start.elapsed().as_secs_f64()));
    Ok(done)
}

/// Runs a command to its end, its output to ours, without standard input.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let spelled = spell(command);
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{spelled}`"))?;
    ensure!(status.success(), "`{spelled}` ended with {status}");
    Ok(())
}

/// A command as one would type it.
pub(crate) fn spell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A line of results.
#[expect(clippy::print_stdout, reason = "this is a terminal program's result")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A line about the run itself.
#[expect(clippy::print_stderr, reason = "this is a terminal program's report")]
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}
