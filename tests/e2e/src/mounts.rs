//! Mounts that nobody else sees and that are gone with their last process. They need no privilege.

use std::env;
use std::path::Path;

use rustix::process::{getegid, geteuid};

use crate::outcome::Run;

/// Where a test that runs again finds its small disk.
const DISK: &str = "BANDSOX_TEST_SMALL_DISK";

/// The program that its arguments name, by the same user, once `script` has mounted what it wants in a mount namespace of
/// their own. The script may use variables that the caller sets.
#[must_use]
pub fn after_mounting(script: &str) -> Run {
    let run = Run::new("unshare").arg("--mount");
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return run.args(["sh", "-c", &format!("{script} && exec \"$@\""), "sh"]);
    }
    // Mounting takes the root of a user namespace; the program gets its own user back in another one.
    let back =
        format!("unshare --user --map-user={} --map-group={}", user.as_raw(), group.as_raw());
    run.arg("--map-root-user").args(["sh", "-c", &format!("{script} && exec {back} \"$@\""), "sh"])
}

/// Runs `body` with the path of a file system of so many MiB: in this process run again, as `test`, where that is mounted.
///
/// # Panics
///
/// When the test fails there.
pub fn on_small_disk(test: &str, size_mib: u32, body: impl FnOnce(&Path)) {
    if let Some(disk) = env::var_os(DISK) {
        return body(Path::new(&disk));
    }
    let dir =
        tempfile::Builder::new().prefix("bandsox-e2e-disk-").tempdir().expect("/tmp is writable");
    let again = after_mounting(&format!("mount -t tmpfs -o size={size_mib}m none \"${DISK}\""))
        .env(DISK, dir.path())
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"]);
    let outcome = again.output().ok();
    let ran = outcome.text().contains("1 passed");
    assert!(ran, "there is no test {test}\n{outcome}");
}
