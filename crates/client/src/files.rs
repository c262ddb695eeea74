//! Files and directories by protocol v2, over a channel.
//!
//! Directories travel here both ways, and single files where their bytes go to a stream. Single
//! regular files between two disks go through the monitor instead ([`crate::Monitor::put_file`]).

mod get;
mod put;
mod stat;
mod stream;
mod talk;

pub use bandsox_files::{Parents, ReceiveError, SendError, Source, Target};
pub use bandsox_proto::v2::{Done, EntryKind, Fault, StatReply};
pub use get::{GetError, get_tree};
pub use put::{PutError, Stored, put_tree};
pub use stat::stat;
pub use stream::{StreamError, get_stream};
pub use talk::TalkError;
