//! What the agent says to a client.

use minicbor::{Decode, Encode};

use crate::ByteString;
use crate::list::at_most;
use crate::v2::frame::{
    DecodeError, decode_map, encode_empty, encode_frame, encode_map, raw_with_u64, require_empty,
};
use crate::v2::{Done, Entry, EntryKind, Fault, Kind, SessionId};

/// A message from agent to client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each names the message of the same name, documented there")]
pub enum Reply {
    Started(Started),
    Output(Output),
    Exit(Exit),
    StdinAck(StdinAck),
    Sessions(Sessions),
    /// 0x8f: the request was not done.
    Error(Fault),
    Ready(Ready),
    Entry(Entry),
    Done(Done),
    StatReply(StatReply),
    /// 0xa0: here.
    Pong,
    Hello(Hello),
    Listening(Listening),
}

/// 0x81: the session exists and this connection is attached to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Started {
    /// Which session.
    #[n(0)]
    pub session: SessionId,
    /// Process id in the guest; 0 if the program could not be started.
    #[n(1)]
    pub pid: u32,
    /// How many bytes of stdin the agent has: the client goes on from here.
    #[n(2)]
    pub stdin_offset: u64,
    /// Whether the session was there before this connection.
    #[cbor(n(3), default)]
    pub resumed: bool,
    /// The number of the first output that is still kept.
    #[cbor(n(4), default)]
    pub first_seq: u64,
}

/// Which of the command's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamName {
    /// 1
    Stdout,
    /// 2
    Stderr,
}

impl StreamName {
    /// The byte on the wire: the file descriptor's number.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// 0x82: a piece of output. Not CBOR: u64 LE seq, u8 stream, then the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Counts pieces over both streams, from 0.
    pub seq: u64,
    /// Where it was written to.
    pub stream: StreamName,
    /// What was written.
    pub data: Vec<u8>,
}

/// 0x83: the command is over. Exactly one of `code`, `signal` is there unless `error` says why it never ran.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exit {
    /// Exit code 0 to 255; 126 or 127 with `error` if it could not be started.
    #[n(0)]
    pub code: Option<u8>,
    /// The signal that killed it.
    #[n(1)]
    pub signal: Option<u8>,
    /// It ran out of its time and was killed for that; clients exit with 124.
    #[cbor(n(2), default)]
    pub timeout: bool,
    /// How many pieces of output there were: the number after the last.
    #[n(3)]
    pub seq: u64,
    /// Why it could not be started.
    #[n(4)]
    pub error: Option<Fault>,
}

/// 0x84: the command has taken this much stdin; the client may send [`StdinAck::WINDOW`] bytes beyond it. Not CBOR: u64 LE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StdinAck {
    /// Bytes of stdin the agent has written to the command.
    pub offset: u64,
}

impl StdinAck {
    /// How many bytes of stdin may be on the way, unacknowledged.
    pub const WINDOW: u64 = 256 * 1024;
}

/// 0x85: the sessions the agent knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sessions {
    /// At most 1,024.
    #[cbor(n(0), decode_with = "at_most::<_, _, 1024>")]
    pub sessions: Vec<SessionInfo>,
}

/// One line of [`Sessions`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionInfo {
    /// Its id.
    #[n(0)]
    pub session: SessionId,
    /// First argument.
    #[n(1)]
    pub program: ByteString,
    /// Process id in the guest.
    #[n(2)]
    pub pid: u32,
    /// Whether the command still runs.
    #[n(3)]
    pub running: bool,
    /// Whether a client is attached.
    #[n(4)]
    pub attached: bool,
    /// Milliseconds since it was started, on the guest's clock.
    #[n(5)]
    pub age_ms: u64,
}

/// 0x90: the target of a Put is there; send.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ready {
    /// Where the files go, after looking at what is there.
    #[n(0)]
    pub path: ByteString,
    /// Whether that is an existing directory.
    #[cbor(n(1), default)]
    pub is_dir: bool,
}

/// 0x93: what is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StatReply {
    /// What it is.
    #[n(0)]
    pub kind: EntryKind,
    /// Permission bits, 12 of them.
    #[n(1)]
    pub mode: u32,
    /// Owner.
    #[n(2)]
    pub uid: u32,
    /// Group.
    #[n(3)]
    pub gid: u32,
    /// Modification time, nanoseconds since 1970, may be negative.
    #[n(4)]
    pub mtime_ns: i64,
    /// Length in bytes.
    #[n(5)]
    pub size: u64,
    /// Target of a symbolic link.
    #[n(6)]
    pub target: Option<ByteString>,
}

/// 0xa1: said by the agent on its control connection, unasked: the guest is up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Version of the agent.
    #[n(0)]
    pub agent: String,
    /// Lowest and highest agent protocol version, v1 included: usually 1 and 2.
    #[n(1)]
    pub protocols: (u8, u8),
    /// `uname -r` of the guest.
    #[n(2)]
    pub kernel: String,
    /// Which of `vsock`, `serial` the agent can use; at most 8.
    #[cbor(n(3), decode_with = "at_most::<_, _, 8>")]
    pub transports: Vec<String>,
    /// Milliseconds from the kernel's start to this message.
    #[n(4)]
    pub boot_ms: u64,
    /// The vsock port it listens on, 0 without vsock.
    #[cbor(n(5), default)]
    pub port: u32,
}

/// 0xa2: the agent listens on the new port, and no longer on the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Listening {
    /// The vsock port.
    #[n(0)]
    pub port: u32,
}

impl Reply {
    /// The kind byte of this message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Started(_) => Kind::Started,
            Self::Output(_) => Kind::Output,
            Self::Exit(_) => Kind::Exit,
            Self::StdinAck(_) => Kind::StdinAck,
            Self::Sessions(_) => Kind::Sessions,
            Self::Error(_) => Kind::Error,
            Self::Ready(_) => Kind::Ready,
            Self::Entry(_) => Kind::Entry,
            Self::Done(_) => Kind::Done,
            Self::StatReply(_) => Kind::StatReply,
            Self::Pong => Kind::Pong,
            Self::Hello(_) => Kind::Hello,
            Self::Listening(_) => Kind::Listening,
        }
    }

    /// Reads the payload of a frame.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the kind is none of the agent's, or the payload is not what the kind says.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, DecodeError> {
        let known = Kind::from_byte(kind).ok_or(DecodeError::UnknownKind { kind })?;
        Ok(match known {
            Kind::Started => Self::Started(decode_map(known, payload)?),
            Kind::Output => Self::Output(decode_output(payload)?),
            Kind::Exit => Self::Exit(decode_map(known, payload)?),
            Kind::StdinAck => {
                let (offset, rest) = raw_with_u64(known, payload)?;
                require_empty(known, rest)?;
                Self::StdinAck(StdinAck { offset })
            }
            Kind::Sessions => Self::Sessions(decode_map(known, payload)?),
            Kind::Error => Self::Error(decode_map(known, payload)?),
            Kind::Ready => Self::Ready(decode_map(known, payload)?),
            Kind::Entry => Self::Entry(decode_map(known, payload)?),
            Kind::Done => Self::Done(decode_map(known, payload)?),
            Kind::StatReply => Self::StatReply(decode_map(known, payload)?),
            Kind::Pong => Self::Pong,
            Kind::Hello => Self::Hello(decode_map(known, payload)?),
            Kind::Listening => Self::Listening(decode_map(known, payload)?),
            Kind::Exec
            | Kind::Attach
            | Kind::Stdin
            | Kind::StdinEof
            | Kind::Resize
            | Kind::Signal
            | Kind::Ack
            | Kind::ListSessions
            | Kind::Put
            | Kind::Get
            | Kind::Go
            | Kind::Stat
            | Kind::Ping
            | Kind::Shutdown
            | Kind::Listen => return Err(DecodeError::WrongDirection { kind: known }),
        })
    }

    /// Appends this message, with its frame header, to `out`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] if it does not fit into a frame.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let kind = self.kind();
        match self {
            Self::Started(m) => encode_map(kind, m, out),
            Self::Output(m) => {
                encode_frame(kind, &[&m.seq.to_le_bytes(), &[m.stream.byte()], &m.data], out)
            }
            Self::Exit(m) => encode_map(kind, m, out),
            Self::StdinAck(m) => encode_frame(kind, &[&m.offset.to_le_bytes()], out),
            Self::Sessions(m) => encode_map(kind, m, out),
            Self::Error(m) => encode_map(kind, m, out),
            Self::Ready(m) => encode_map(kind, m, out),
            Self::Entry(m) => encode_map(kind, m, out),
            Self::Done(m) => encode_map(kind, m, out),
            Self::StatReply(m) => encode_map(kind, m, out),
            Self::Hello(m) => encode_map(kind, m, out),
            Self::Listening(m) => encode_map(kind, m, out),
            Self::Pong => encode_empty(kind, out),
        }
    }

    /// This message as one frame.
    ///
    /// # Errors
    ///
    /// As [`Reply::encode`].
    pub fn to_frame(&self) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        self.encode(&mut out)?;
        Ok(out)
    }
}

fn decode_output(payload: &[u8]) -> Result<Output, DecodeError> {
    let (seq, rest) = raw_with_u64(Kind::Output, payload)?;
    let (stream, data) = match rest {
        [1, data @ ..] => (StreamName::Stdout, data),
        [2, data @ ..] => (StreamName::Stderr, data),
        _ => return Err(DecodeError::Length { kind: Kind::Output, len: payload.len() }),
    };
    Ok(Output { seq, stream, data: data.to_vec() })
}
