//! `cargo xtask VERB`: everything about this repository that takes more than one command.
//!
//! | verb | what it does |
//! |---|---|
//! | `demo` | installs what is missing, builds, and walks through a VM's life with timings |
//! | `test` | the same set-up, then every check and every test |
//! | `check` | what no compiler checks: layers, forgotten tests, the list of unsafe modules, the changelog, links |
//! | `fuzz [TARGET] [--seconds N]` | strangers' bytes for everything that reads them; all targets, 60 s each |
//! | `soak` | the long tests |
//! | `bench [GROUP] [-o json]` | the measurements |

#[cfg(feature = "bench")]
mod bench;
mod check;
mod demo;
mod fuzz;
mod setup;
mod soak;
mod step;
mod test;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask demo | test | check | fuzz [TARGET] [--seconds N] | soak | bench [GROUP] [-o json]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::note(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Result<()> {
    match *words {
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        ["check"] => check::run(),
        ["fuzz", ref rest @ ..] => fuzz::run(rest),
        ["soak"] => soak::run(),
        ["bench", ref rest @ ..] => bench(rest),
        [] | ["help" | "-h" | "--help"] => {
            step::say(USAGE);
            Ok(())
        }
        [other, ..] => bail!("unknown: {other}; {USAGE}"),
    }
}

#[cfg(feature = "bench")]
fn bench(rest: &[&str]) -> Result<()> {
    bench::run(rest)
}

/// Builds this program again, optimised and with the benchmarks in it, and hands over to that.
#[cfg(not(feature = "bench"))]
fn bench(rest: &[&str]) -> Result<()> {
    setup::packages::ensure(setup::packages::RUN)?;
    step::run(
        std::process::Command::new(setup::cargo())
            .args(["run", "--quiet", "--release", "--package", "xtask", "--features", "bench"])
            .args(["--", "bench"])
            .args(rest),
    )
}
