//! What is at a path in the guest.

use bandsox_proto::ByteString;
use bandsox_proto::v2::{Reply, Request, Stat, StatReply};

use super::talk::{self, TalkError};
use crate::channel::Channel;

/// Asks what is at `path` in the guest, through symbolic links. Uses the channel up.
///
/// # Errors
///
/// [`TalkError::Refused`] with `not_found` if nothing is there.
pub fn stat(channel: &Channel, path: ByteString) -> Result<StatReply, TalkError> {
    let mut frames = talk::begin(channel, &Request::Stat(Stat { path, follow: true }))?;
    let Reply::StatReply(found) = talk::hear(&mut frames)? else {
        return Err(TalkError::OutOfPlace { wanted: "StatReply" });
    };
    Ok(found)
}
