//! Giving up privileges.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::failure::Failure;

/// Empties the bounding set and makes uid 0 mean nothing, for this thread and what it executes.
///
/// A thread without the capability to do so has nothing to lose by it: that is no failure.
pub(crate) fn forbid_gains() -> Result<(), Failure> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(Errno::PERM) => return Ok(()),
            Err(errno) => return Err(Failure::at("emptying the capability bounding set")(errno)),
        }
    }
    let locked = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    set_capabilities_secure_bits(locked).map_err(Failure::at("locking the secure bits"))
}

/// Becomes user and group `id`, in no other group.
pub(crate) fn become_user(id: u32) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_groups(&[]).map_err(Failure::at("leaving all groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(Failure::at("changing the group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(Failure::at("changing the user"))
}

/// Drops every capability of this thread, for good.
pub(crate) fn drop_capabilities() -> Result<(), Failure> {
    forbid_new_privileges()?;
    keep_only(CapabilitySet::empty())
}

/// Has this thread, and what it executes, never gain a privilege by executing.
pub(crate) fn forbid_new_privileges() -> Result<(), Failure> {
    set_no_new_privs(true).map_err(Failure::at("setting no_new_privs"))
}

/// Drops every capability of this thread that is not in `kept`.
pub(crate) fn keep_only(kept: CapabilitySet) -> Result<(), Failure> {
    clear_ambient_capability_set().map_err(Failure::at("clearing ambient capabilities"))?;
    let held = capabilities(None).map_err(Failure::at("looking at capabilities"))?;
    let kept = held.permitted & kept;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(Failure::at("dropping capabilities"))
}
