//! Images by real parts: Debian's `docker-registry` on loopback, filled by `skopeo` and `umoci`; and by a server that does
//! all that a registry should not.

mod builder;
mod content;
mod hostile;
mod registry;

mod auth;
mod faults;
mod images;
mod killed;
mod local;
mod pull;

use std::path::Path;
use std::time::Duration;

use bandsox_oci::{Image, ImageStore, Patience, Policy, PullError, PullOptions, Source};

/// Pulls `name` into `images` with little patience.
fn pull(images: &Path, name: &str, policy: Policy) -> Result<Image, PullError> {
    let store = ImageStore::open(images).expect("opens");
    let source = Source::parse(name).expect("parses");
    store.pull(&source, policy, &options(), &builder::Lines, &|_| {})
}

/// So that a test of what fails does not take long.
fn options() -> PullOptions {
    let patience = Patience {
        attempts: 3,
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_secs(5),
        stall: Duration::from_secs(2),
        least: 1000,
        window: Duration::from_secs(1),
    };
    PullOptions { patience, ..PullOptions::default() }
}

/// An error and everything behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("lists");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("lists").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
