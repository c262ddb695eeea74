//! `vmstream`: looks into VM state streams.
#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a command looks at the few kinds of events that it is about"
)]

mod cli;
mod command;
mod failure;
mod flat;
mod input;
mod output;
mod place;
mod report;
mod store;
mod survey;
mod verdict;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => command::run(cli.command).unwrap_or_else(|error| failure::report(&error)),
        Err(error) => {
            // Help and version are no failures. Where standard error is closed there is nobody to tell.
            drop(error.print());
            ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 })
        }
    }
}
