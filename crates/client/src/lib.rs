//! Typed client of a monitor's control socket and of the agent behind it.
//!
//! [`Monitor`] speaks to the monitor of one VM. It opens [`Channel`]s: byte streams to the guest's
//! agent, over vsock or the serial link. [`exec`] runs commands over a channel, [`files`] moves
//! directories, [`v1`] moves files by the migration guide's protocol. Single regular files go
//! through the monitor ([`Monitor::put_file`], [`Monitor::get_file`]), which moves their bytes
//! between a descriptor of ours and the guest's memory.
//!
//! The guest is hostile. Nothing that arrives over a channel makes this crate write outside the
//! target that its caller named, allocate without bound, or panic.

mod cancel;
mod channel;
mod control;
pub mod exec;
pub mod files;
pub mod local;
mod packet;
pub mod v1;

pub use cancel::{Cancel, Watch};
pub use channel::Channel;
pub use control::{ConnectError, Monitor, PutFile, RequestError};
pub use packet::{MAX_DESCRIPTORS, Packet, PacketError, PacketListener, PacketSocket};
