//! Launcher and probe as a program of their own: what `bandsox __jail` and `bandsox __probe`
//! are, for tests of this crate and of those that build on it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("__jail") => bandsox_jail::launcher_main(),
        Some("__probe") => bandsox_jail::probe_main(),
        _ => ExitCode::FAILURE,
    }
}
