//! Whether the engine can be locked in on this machine.

use std::fs;
use std::path::Path;

use bandsox_jail::{Helper, Jail, prove};

use super::{Finding, told};

/// No VM has it, so no VM's engine runs under the user id that comes from it.
const NO_CID: u32 = 0xffff;

pub(super) fn examine() -> Vec<Finding> {
    vec![namespaces(), jail(), cgroup()]
}

/// Root needs no user namespace; everybody else's jail stands on one.
fn namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    if rustix::process::geteuid().is_root() {
        return Finding::ok(NAME, "not needed as root");
    }
    let forbids = |file: &str, value: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(file)).is_ok_and(|is| is.trim() == value)
    };
    for (file, value, remedy) in [
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ] {
        if forbids(file, value) {
            let found = format!("/proc/sys/{file} is {value}: this user may not make any");
            return Finding::fail(NAME, found, format!("as root: {remedy}"));
        }
    }
    Finding::ok(NAME, "this user may make them")
}

/// The proof: from the engine's place, everything that must fail is tried.
fn jail() -> Finding {
    let proven = Helper::probe()
        .map_err(told)
        .and_then(|probe| prove(&Jail::new("doctor", NO_CID), &probe).map_err(told));
    let proof = match proven {
        Ok(proof) => proof,
        Err(why) => {
            let remedy = "see the line above; only to debug, `bandsox start --no-jail`";
            return Finding::fail("jail", why, remedy);
        }
    };
    let holes: Vec<_> = proof.holes().map(|hole| hole.name.as_str()).collect();
    if !proof.holds() {
        let found = format!("it does not hold; from inside one can {}", holes.join(", "));
        return Finding::fail("jail", found, "report this with the kernel's version");
    }
    let tried = proof.attempts.len();
    if proof.seal.missing.is_empty() {
        return Finding::ok("jail", format!("holds: all {tried} attempts to get out failed"));
    }
    let found = format!(
        "holds: all {tried} attempts to get out failed; not available here: {}",
        proof.seal.missing.join(", ")
    );
    Finding::warn("jail", found, "a newer kernel, or running as root, gives the rest")
}

fn cgroup() -> Finding {
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let has = |controller: &str| match &unified {
        Ok(controllers) => controllers.split_whitespace().any(|one| one == controller),
        Err(_) => Path::new("/sys/fs/cgroup").join(controller).is_dir(),
    };
    let missing: Vec<_> = ["memory", "pids"].into_iter().filter(|one| !has(one)).collect();
    if !missing.is_empty() {
        let found = format!("no controller for {}: VMs are not limited by it", missing.join(", "));
        return Finding::warn("cgroup", found, "mount the cgroup file system with it");
    }
    if rustix::process::geteuid().is_root() {
        Finding::ok("cgroup", "memory and number of tasks can be limited")
    } else {
        let found = "this user may not make any: VMs are limited by rlimits alone";
        Finding::warn("cgroup", found, "run as root, or have a cgroup delegated")
    }
}
