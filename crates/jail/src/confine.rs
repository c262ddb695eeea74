//! A monitor gives up what it no longer needs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::geteuid;
use rustix::thread::CapabilitySet;

use crate::{cgroup, privileges, syscalls};

/// What a monitor goes on needing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonitorNeeds {
    /// Folders and files that it reads, writes, and in which it makes and removes files and
    /// sockets. Those that do not exist are left out.
    pub read_write: Vec<PathBuf>,
    /// Folders and files that it reads.
    pub read: Vec<PathBuf>,
}

/// Which restrictions took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfineReport {
    /// In force.
    pub applied: Vec<String>,
    /// Not to be had on this host, each with the reason.
    pub missing: Vec<String>,
}

/// Restricts the calling thread, and every thread that it makes afterwards, to `needs`.
///
/// No path but these, no TCP, no signals to others, no new programs, no capabilities. What is
/// open stays open. To be called by the only thread, after the engine's process was launched.
///
/// Best effort: what the host does not offer is reported, not an error.
pub fn confine_monitor(needs: &MonitorNeeds) -> ConfineReport {
    let mut report = ConfineReport::default();
    let kept = kept_capabilities(needs);
    let mut note = |name: &str, result: Result<(), String>| match result {
        Ok(()) => report.applied.push(name.to_owned()),
        Err(reason) => report.missing.push(format!("{name}: {reason}")),
    };
    note("no new privileges", privileges::forbid_new_privileges().map_err(|f| f.to_string()));
    note("landlock", restrict_paths(needs));
    let capabilities = if kept.is_empty() {
        "no capabilities"
    } else {
        "no capabilities but to write to files of the storage's owner"
    };
    note(capabilities, privileges::keep_only(kept).map_err(|f| f.to_string()));
    note(
        "system call filter",
        syscalls::refuse_unneeded_and_execution().map_err(|f| f.to_string()),
    );
    report
}

/// Root writes to storage of its own without any capability, and to another user's with one.
fn kept_capabilities(needs: &MonitorNeeds) -> CapabilitySet {
    let me = geteuid().as_raw();
    let foreign = |path: &PathBuf| fs::metadata(path).is_ok_and(|status| status.uid() != me);
    if geteuid().is_root() && needs.read_write.iter().chain(&needs.read).any(foreign) {
        CapabilitySet::DAC_OVERRIDE
    } else {
        CapabilitySet::empty()
    }
}

/// Rights as of Linux 6.12; an older kernel enforces those that it knows.
const RIGHTS: ABI = ABI::V6;

fn restrict_paths(needs: &MonitorNeeds) -> Result<(), String> {
    let status = rules(needs).and_then(RulesetCreated::restrict_self);
    match status.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => Ok(()),
        Ok(RulesetStatus::PartiallyEnforced) => {
            Err("this kernel knows only a part of it; that part is in force".to_owned())
        }
        Ok(RulesetStatus::NotEnforced) => Err("this kernel does not have it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn rules(needs: &MonitorNeeds) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(RIGHTS);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?
        .create()?;
    for path in &needs.read_write {
        rules = allow(rules, path, all & !AccessFs::Execute)?;
    }
    let own = [PathBuf::from("/proc/self"), PathBuf::from("/dev/urandom")];
    for path in needs.read.iter().chain(&own) {
        rules = allow(rules, path, read)?;
    }
    rules = allow(rules, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    // So that the engine's cgroup can be removed after it.
    for parent in cgroup::parents() {
        rules = allow(rules, &parent, AccessFs::RemoveDir.into())?;
    }
    Ok(rules)
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    mut access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    if !path.is_dir() {
        access &= AccessFs::from_file(RIGHTS);
    }
    rules.add_rule(PathBeneath::new(fd, access))
}
