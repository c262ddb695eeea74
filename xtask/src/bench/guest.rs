//! What the groups share: a guest, the barest programs in it, a stopwatch, a measure of disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use bandsox_e2e::{Run, Vm, eventually};

/// Starts `vsock-peer listen PORT WHAT…` in the guest and waits until it listens.
pub(super) fn listen(vm: &Vm<'_>, port: u32, what: &str) {
    vm.sh(&format!("vsock-peer listen {port} {what} > /tmp/peer-{port} 2>&1 &"));
    let listens = || vm.sh(&format!("cat /tmp/peer-{port}")) == "listening";
    eventually("the peer listens", || listens().then_some(()));
}

/// How long the work takes, in seconds.
pub(super) fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// How long a command takes that must succeed, from its start to its end, in seconds.
pub(super) fn timed(run: Run) -> f64 {
    run.output().ok().took.as_secs_f64()
}

/// What the files below `dir` take on the disk.
pub(super) fn used_bytes(dir: &Path) -> f64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => used_bytes(&entry.path()),
            Ok(meta) => meta.blocks() as f64 * 512.0,
            Err(_) => 0.0,
        })
        .sum()
}
