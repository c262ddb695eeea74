//! See `bandsox_fuzz::transcode`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bandsox_fuzz::transcode::run(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    bandsox_fuzz::replay(bandsox_fuzz::transcode::run)
}
