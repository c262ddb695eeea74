//! Commands in the guest.

mod attachment;
mod conversation;
mod drive;
mod inbound;
mod input;
mod patience;
mod sink;

pub use attachment::{Attachment, Command, Ended, ExecError, Flow, LinkError, Streams};
pub use bandsox_proto::v2::{Exec, Exit, SessionId, Started, WindowSize};
pub use conversation::{Begin, Conversation, Event, Misbehaved};
pub use drive::run;
