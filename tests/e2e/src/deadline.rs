//! Waiting for something that will happen, with a deadline that only a fault reaches.

use std::thread;
use std::time::{Duration, Instant};

/// Far beyond what anything takes on a loaded machine; reaching it is a failure, never a measurement.
pub const GENEROUS: Duration = Duration::from_secs(120);

/// Asks until there is an answer.
///
/// # Panics
///
/// After [`GENEROUS`], naming `what`.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < GENEROUS, "waited {GENEROUS:?} in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
