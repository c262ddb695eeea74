//! The first bytes of a channel: which versions each side speaks.
//!
//! Client → agent: `BSX2`, u8 the version it will speak, u8 zero. Agent → client: `BSX2`, u8 lowest, u8 highest version.
//! The client may send its first frame without waiting for the answer; an agent that does not speak the version answers
//! with its range and closes.

use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

/// The four bytes both sides begin with.
pub const MAGIC: [u8; 4] = *b"BSX2";

/// The version that this crate describes.
pub const VERSION: u8 = 2;

/// What the client sends.
pub const CLIENT: [u8; 6] = [b'B', b'S', b'X', b'2', VERSION, 0];

/// What an agent that speaks exactly this version sends.
pub const AGENT: [u8; 6] = [b'B', b'S', b'X', b'2', VERSION, VERSION];

/// Why the two sides cannot talk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreambleError {
    /// The peer begins with other bytes, so it is not the other side of this protocol.
    #[error("peer does not speak protocol v2: it begins {found:02x?}")]
    Foreign {
        /// What was there.
        found: [u8; 6],
    },
    /// The version wanted is outside the agent's range.
    #[error("agent speaks protocol versions {lowest} to {highest}, not {wanted}")]
    Version {
        /// What this side wanted.
        wanted: u8,
        /// The agent's lowest.
        lowest: u8,
        /// The agent's highest.
        highest: u8,
    },
    /// The channel ended or failed.
    #[error("channel failed before both sides had said their version")]
    Io(#[from] io::Error),
}

/// The client's part: says the version, without waiting for the answer.
///
/// # Errors
///
/// What the channel reports.
pub fn send_client(channel: &mut impl Write) -> Result<(), PreambleError> {
    Ok(channel.write_all(&CLIENT)?)
}

/// The client's part: reads the agent's range and checks that it holds [`VERSION`].
///
/// # Errors
///
/// See [`PreambleError`].
pub fn receive_agent(channel: &mut impl Read) -> Result<RangeInclusive<u8>, PreambleError> {
    let mut found = [0; 6];
    channel.read_exact(&mut found)?;
    let [b'B', b'S', b'X', b'2', lowest, highest] = found else {
        return Err(PreambleError::Foreign { found });
    };
    let range = lowest..=highest;
    if !range.contains(&VERSION) {
        return Err(PreambleError::Version { wanted: VERSION, lowest, highest });
    }
    Ok(range)
}

/// The agent's part: reads the version that the client wants.
///
/// # Errors
///
/// See [`PreambleError`]. On [`PreambleError::Version`] the agent still sends [`AGENT`], then closes.
pub fn receive_client(channel: &mut impl Read) -> Result<(), PreambleError> {
    let mut found = [0; 6];
    channel.read_exact(&mut found)?;
    let [b'B', b'S', b'X', b'2', wanted, _] = found else {
        return Err(PreambleError::Foreign { found });
    };
    if wanted != VERSION {
        return Err(PreambleError::Version { wanted, lowest: VERSION, highest: VERSION });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sides_accept_each_other() {
        assert!(receive_client(&mut &CLIENT[..]).is_ok());
        assert_eq!(receive_agent(&mut &AGENT[..]).ok(), Some(2..=2));
    }

    #[test]
    fn an_agent_of_another_version_is_refused_with_its_range() {
        let error = receive_agent(&mut &b"BSX2\x03\x05"[..]).expect_err("2 is not in 3..=5");

        assert_eq!(error.to_string(), "agent speaks protocol versions 3 to 5, not 2");
    }
}
