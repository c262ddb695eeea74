//! The commands, one file each.

pub(crate) mod bridge;
pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod from_json;
pub(crate) mod get;
pub(crate) mod inspect;
pub(crate) mod json;
pub(crate) mod manifest;
pub(crate) mod ram;
pub(crate) mod report;
pub(crate) mod schema;
pub(crate) mod tree;
pub(crate) mod verify;

use std::process::ExitCode;

use crate::cli::Command;

/// Runs the command that the user gave.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Tree(args) => tree::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Json(args) => json::run(&args),
        Command::FromJson(args) => from_json::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Ram(args) => ram::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Manifest(args) => manifest::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Bridge(args) => bridge::run(&args),
    }
}
