//! Whether the engine can be locked in on this machine.

use std::fs;
use std::path::Path;

use bandsox_jail::{Helper, Jail, Proof, prove};

use super::{Finding, told};

/// No VM has it, so no VM's engine runs under the user id that comes from it.
const NO_CID: u32 = 0xffff;

pub(super) fn examine() -> Vec<Finding> {
    let mut findings = vec![namespaces()];
    let proven = Helper::probe()
        .map_err(told)
        .and_then(|probe| prove(&Jail::new("doctor", NO_CID), &probe).map_err(told));
    match proven {
        Ok(proof) => findings.extend([jail(&proof), cgroup(&proof)]),
        Err(why) => {
            let remedy = "see the line above; only to debug, `bandsox start --no-jail`";
            findings.push(Finding::fail("jail", why, remedy));
        }
    }
    findings
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

/// The proof: from the engine's place, everything that must fail was tried.
fn jail(proof: &Proof) -> Finding {
    let holes: Vec<_> = proof.holes().map(|hole| hole.name.as_str()).collect();
    if !proof.holds() {
        let found = format!("it does not hold; from inside one can {}", holes.join(", "));
        return Finding::fail("jail", found, "report this with the kernel's version");
    }
    let tried = proof.attempts.len();
    let found = format!("holds: all {tried} attempts to get out failed");
    let (_, missing) = missing(proof);
    if missing.is_empty() {
        return Finding::ok("jail", found);
    }
    let found = format!("{found}; not available here: {}", missing.join(", "));
    Finding::warn("jail", found, "a newer kernel, or running as root, gives the rest")
}

/// Limits beyond those that every process has.
fn cgroup(proof: &Proof) -> Finding {
    let (missing, _) = missing(proof);
    if missing.is_empty() {
        return Finding::ok("cgroup", "memory and number of tasks are limited");
    }
    let remedy = if rustix::process::geteuid().is_root() {
        "mount a cgroup file system with the memory and pids controllers"
    } else {
        "run as root, or have a cgroup delegated"
    };
    let found = format!("VMs are limited by rlimits alone: {}", missing.join(", "));
    Finding::warn("cgroup", found, remedy)
}

/// What the jail would have liked and did not get: of cgroups, and of everything else.
fn missing(proof: &Proof) -> (Vec<&str>, Vec<&str>) {
    let all = proof.seal.missing.iter().map(String::as_str);
    all.partition(|missing| missing.contains("cgroup"))
}
