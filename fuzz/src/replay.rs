//! Inputs from files, outside of libFuzzer.

use std::process::ExitCode;
use std::{env, fs};

/// Runs every file that the command line names, as the program of a target built without libFuzzer does.
#[must_use]
#[expect(clippy::print_stderr, reason = "this is a program's whole report")]
pub fn replay(run: fn(&[u8])) -> ExitCode {
    for path in env::args_os().skip(1) {
        match fs::read(&path) {
            Ok(bytes) => run(&bytes),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
