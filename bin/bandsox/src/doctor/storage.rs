//! The storage directory and what `bandsox init` puts there.

use std::path::Path;

use bandsox_image::kernel::Kernel;
use bandsox_store::{Create, Store};
use rustix::fs::Access;
use sha2::{Digest as _, Sha256};

use super::{Finding, told};
use crate::agent::AGENT;
use crate::output::human_bytes;

/// Below this much room no VM gets far.
const TOO_LITTLE: u64 = 100 << 20;
/// Below this much room VMs may fill the disk.
const LITTLE: u64 = 2 << 30;

pub(super) fn examine(named: Option<&Path>) -> Vec<Finding> {
    let path = named.unwrap_or_else(|| Path::new(crate::storage::DEFAULT));
    let store = match Store::open(path, Create::No) {
        Ok(store) => store,
        Err(error) => {
            let remedy = "run `bandsox init`, with --storage DIR or BANDSOX_STORAGE if this user \
                          may not use that directory";
            return vec![Finding::fail("storage", told(error), remedy)];
        }
    };
    vec![writable(path), room(path), kernel(&store)]
}

fn writable(path: &Path) -> Finding {
    let shown = path.display();
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok("storage", format!("{shown} is writable")),
        Err(error) => Finding::fail(
            "storage",
            format!("{shown} is not writable: {error}"),
            "use a directory of your own with --storage or BANDSOX_STORAGE",
        ),
    }
}

fn room(path: &Path) -> Finding {
    let free = match rustix::fs::statvfs(path) {
        Ok(fs) => fs.f_bavail.saturating_mul(fs.f_frsize),
        Err(error) => {
            let found = format!("free space cannot be told: {error}");
            return Finding::warn("space", found, "look with df");
        }
    };
    let found = format!("{} free", human_bytes(free));
    let remedy = "free some space: `bandsox cleanup`, `bandsox rm` of VMs no longer needed";
    match free {
        0..TOO_LITTLE => Finding::fail("space", found, remedy),
        TOO_LITTLE..LITTLE => Finding::warn("space", found, remedy),
        _ => Finding::ok("space", found),
    }
}

fn kernel(store: &Store) -> Finding {
    let kernel = match Kernel::load(store.paths().root()) {
        Ok(kernel) => kernel,
        Err(error) => {
            let remedy =
                "run `bandsox init`, on a host without a kernel in /boot with --kernel-deb";
            return Finding::fail("kernel", told(error), remedy);
        }
    };
    let ours: String = Sha256::digest(AGENT).iter().map(|byte| format!("{byte:02x}")).collect();
    if kernel.agent_sha256 != ours {
        let found = format!("{}, with the agent of another version of bandsox", kernel.version);
        return Finding::warn("kernel", found, "run `bandsox init`");
    }
    if !kernel.has_vsock {
        let found = format!("{}, without vsock: transfers use the serial link", kernel.version);
        let remedy = "install a kernel that has vsock with `bandsox init --kernel-deb FILE`";
        return Finding::warn("kernel", found, remedy);
    }
    Finding::ok("kernel", format!("{}, with vsock", kernel.version))
}
