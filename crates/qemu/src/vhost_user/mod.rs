//! The vhost-user front: lets QEMU's `vhost-user-vsock-pci` use a [`bandsox_vsock`] device.
//!
//! ```text
//!   QEMU ◀── socket pair ──▶ Front (one thread) ── attach, detach ──▶ bandsox_vsock::Handle
//!                              memory table, addresses, eventfds
//! ```
//!
//! Built on the `vhost` crate's message layer and not on `vhost-user-backend`: the latter wants a
//! socket's path where QEMU's end is inherited, runs an epoll loop that reads every kick and
//! hands queues over one event at a time, and has no room for a device that outlives the
//! connection. The device's own thread does all that here, and this front only sets it up.
//!
//! QEMU is not trusted: whoever breaks out of the guest speaks with its voice. Memory that it
//! hands over must be a memfd that cannot shrink (a mapping beyond the end of a file would kill
//! this process), and whatever it says about queues is checked against that memory.
//!
//! Source: QEMU, `docs/interop/vhost-user.rst`.

mod front;
mod memory;
mod requests;
mod vring;

#[cfg(test)]
mod tests;

pub use front::{Front, FrontEvent};
pub use memory::MemoryError;
