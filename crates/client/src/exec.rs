//! Commands in the guest.

mod conversation;
mod drive;
mod inbound;
mod sink;

pub use bandsox_proto::v2::{Exec, Exit, SessionId, Started, WindowSize};
pub use conversation::{Begin, Conversation, Event, Misbehaved};
pub use drive::{Attachment, Command, Ended, ExecError, Flow, LinkError, Streams, run};
