//! Guest to host, onto a disk.

use std::io::Write as _;
use std::ops::ControlFlow;

use bandsox_files::{Limits, Owners, ReceiveError, ReceiveOptions, Staging, Target, receive};
use bandsox_proto::ByteString;
use bandsox_proto::v2::{Done, Get, Request, Transfer};

use super::talk::{self, TalkError};
use crate::channel::Channel;

/// Most entries that a guest may send; far above any tree that is worth downloading this way.
const MAX_ENTRIES: u64 = 10_000_000;

/// Permission bits taken over from a guest. Neither set-user-id nor set-group-id: whoever runs this
/// may be root, and a guest must not be able to leave a program behind that makes others root.
pub(crate) const MODE_MASK: u32 = 0o1777;

/// Why files did not get out of the guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// What came could not be put in place.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The agent failed, or the connection did.
    #[error(transparent)]
    Talk(#[from] TalkError),
}

/// Copies a directory, or a single file, out of the guest to `target`, and never anywhere else.
/// `progress` is told how many bytes came since the call before; at most `max_bytes` are taken.
/// Uses the channel up.
///
/// # Errors
///
/// [`GetError`]; files that were complete by then are in place.
pub fn get_tree(
    channel: &Channel,
    path: ByteString,
    target: &Target,
    max_bytes: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Done, GetError> {
    let get = Get { path, tree: true, wait_go: false };
    let mut frames = talk::begin(channel, &Request::Get(get))?;
    let options = ReceiveOptions {
        tree: true,
        owners: Owners::Ignore,
        mode_mask: MODE_MASK,
        staging: Staging::Always,
        limits: Limits { entries: MAX_ENTRIES, bytes: max_bytes },
    };
    let done = receive(&mut frames, target, options, &mut |moved| {
        progress(moved);
        ControlFlow::Continue(())
    })?;
    let mut answer = Vec::new();
    Transfer::Done(done.clone()).encode(&mut answer).map_err(TalkError::from)?;
    // Everything is in place; whether the agent hears of it changes nothing.
    (&*channel).write_all(&answer).ok();
    Ok(done)
}
