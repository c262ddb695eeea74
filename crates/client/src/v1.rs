//! Files by protocol v1, the migration guide's: JSON lines, base64 chunks, an ack each, MD5.
//!
//! Single regular files only. One channel carries any number of operations, one after the other,
//! as long as none of them failed.

mod download;
mod upload;

use std::io;

use bandsox_proto::ByteString;
use bandsox_proto::v1::{LineError, LineReader, Malformed, Message, encode_message};

pub use download::DownloadError;
pub use upload::UploadError;

use crate::channel::Channel;

/// A channel on which protocol v1 is spoken.
#[derive(Debug)]
pub struct V1<'a> {
    channel: &'a Channel,
    lines: LineReader<&'a Channel>,
}

/// Why the two sides cannot talk any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TalkError {
    /// The channel failed.
    #[error("the connection to the agent failed")]
    Channel(#[source] io::Error),
    /// The agent ended the conversation.
    #[error("the agent closed the connection")]
    Closed,
    /// What the agent sent is no line.
    #[error("the agent does not speak protocol v1")]
    Line(#[from] LineError),
    /// A line is not what the protocol has.
    #[error("the agent does not speak protocol v1")]
    Malformed(#[from] Malformed),
    /// A message that does not belong there.
    #[error("the agent sent a message out of place; want {wanted}")]
    OutOfPlace {
        /// What belongs there.
        wanted: &'static str,
    },
    /// The agent says that it failed.
    #[error("{message}")]
    Agent {
        /// Its words, made safe to print.
        message: String,
    },
}

impl<'a> V1<'a> {
    /// Speaks on a channel that is fresh, or on which v1 was spoken before.
    #[must_use]
    pub fn new(channel: &'a Channel) -> Self {
        Self { channel, lines: LineReader::new(channel) }
    }

    fn say(&self, message: &Message<'_>) -> Result<(), TalkError> {
        let mut line = String::new();
        encode_message(message, &mut line);
        self.write(line.as_bytes())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), TalkError> {
        io::Write::write_all(&mut &*self.channel, bytes).map_err(TalkError::Channel)
    }

    /// The next message; an error message is an error.
    fn hear(&mut self) -> Result<Message<'_>, TalkError> {
        let line = self.lines.read()?.ok_or(TalkError::Closed)?;
        let message = Message::parse(line)?;
        if let Message::Error { error } = message {
            let message = ByteString::from(&*error).to_printable();
            return Err(TalkError::Agent { message });
        }
        Ok(message)
    }
}

/// Lower-case hexadecimal, as checksums are written.
fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
