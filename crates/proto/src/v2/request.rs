//! What a client says to the agent.

use minicbor::{Decode, Encode};

use crate::ByteString;
use crate::list::at_most;
use crate::v2::frame::{DecodeError, decode_map, raw_with_u64, require_empty};
use crate::v2::{Done, Entry, Fault, Kind, SessionId};

/// Most arguments, and most environment entries, of one command.
const MAX_STRINGS: usize = 16_384;

/// A message from client to agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each names the message of the same name, documented there")]
pub enum Request {
    Exec(Exec),
    Attach(Attach),
    Stdin(Stdin),
    StdinEof(StdinEof),
    Resize(WindowSize),
    Signal(Signal),
    Ack(Ack),
    /// 0x08: which sessions are there?
    ListSessions,
    Put(Put),
    Get(Get),
    /// 0x12: send the data of the entry that was announced.
    Go,
    Stat(Stat),
    /// 0x20: are you there?
    Ping,
    Shutdown(Shutdown),
    Listen(Listen),
    Entry(Entry),
    Done(Done),
    /// 0x8f: the client, sending files, gives up.
    Error(Fault),
}

/// 0x01: run a command, or, where the session is known already, attach to it from its first kept output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exec {
    /// The session's name; a known one is never run again.
    #[n(0)]
    pub session: SessionId,
    /// Program and arguments, at least one, at most 16,384; no shell is involved.
    #[cbor(n(1), decode_with = "at_most::<_, _, MAX_STRINGS>")]
    pub argv: Vec<ByteString>,
    /// `NAME=value` entries on top of the agent's defaults (`PATH`, `HOME`, `USER`, and `TERM` with a terminal).
    #[cbor(n(2), decode_with = "at_most::<_, _, MAX_STRINGS>", default)]
    pub env: Vec<ByteString>,
    /// Working directory; the user's home without it, or `/` where that is missing.
    #[n(3)]
    pub cwd: Option<ByteString>,
    /// `name`, `name:group`, `uid` or `uid:gid`, looked up in the guest; root without it.
    #[n(4)]
    pub user: Option<String>,
    /// Give it a terminal of this size; its output is then all stdout.
    #[n(5)]
    pub tty: Option<WindowSize>,
    /// Whether the client will send stdin; without, the command reads end-of-file.
    #[cbor(n(6), default)]
    pub stdin: bool,
    /// Milliseconds after which the process group gets SIGTERM, then SIGKILL.
    #[n(7)]
    pub timeout_ms: Option<u64>,
    /// Nobody waits for it: while no client is attached the oldest output is dropped instead of stopping the command.
    #[cbor(n(8), default)]
    pub detach: bool,
    /// Make the working directory, root's, where it is missing, as an image that names one expects.
    #[cbor(n(9), default)]
    pub make_cwd: bool,
}

impl Exec {
    /// A command of root's in its home, without anything that is not asked for.
    #[must_use]
    pub fn new(session: SessionId, argv: Vec<ByteString>) -> Self {
        Self {
            session,
            argv,
            env: Vec::new(),
            cwd: None,
            user: None,
            tty: None,
            stdin: false,
            timeout_ms: None,
            detach: false,
            make_cwd: false,
        }
    }
}

/// 0x02: go on where another connection left off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attach {
    /// Which session.
    #[n(0)]
    pub session: SessionId,
    /// The first output number that the client has not got.
    #[cbor(n(1), default)]
    pub from_seq: u64,
}

/// 0x03: bytes for the command's stdin. Not CBOR: u64 LE offset, then the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stdin {
    /// How many bytes of stdin went before these. Bytes the agent has already are skipped, a gap is an error.
    pub offset: u64,
    /// The bytes, at most 64 KiB by custom.
    pub data: Vec<u8>,
}

/// 0x04: stdin ends here. Not CBOR: u64 LE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StdinEof {
    /// How many bytes of stdin there were.
    pub offset: u64,
}

/// 0x05 (and part of [`Exec`]): size of the terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct WindowSize {
    /// Lines.
    #[n(0)]
    pub rows: u16,
    /// Columns.
    #[n(1)]
    pub cols: u16,
}

/// 0x06: send a signal to the command's process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signal {
    /// Linux signal number, 1 to 64.
    #[n(0)]
    pub number: u8,
}

/// 0x07: output up to here has arrived and need not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ack {
    /// The next output number that the client expects; every lower one has arrived. One above [`crate::v2::Exit::seq`]
    /// says that the exit has arrived too, and the session may be forgotten.
    #[n(0)]
    pub seq: u64,
}

/// 0x10: files follow. The agent answers Ready or Error; then Entry frames and data, then Done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Put {
    /// Where to.
    #[n(0)]
    pub path: ByteString,
    /// Whether more than one entry may come.
    #[cbor(n(1), default)]
    pub tree: bool,
    /// With it, a `path` that is an existing directory or ends in `/` means the entry of this name inside.
    #[n(2)]
    pub name: Option<ByteString>,
    /// Make missing parent directories.
    #[cbor(n(3), default)]
    pub parents: bool,
}

/// 0x11: send files. The agent answers Entry frames and data, then Done; or Error.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Get {
    /// What; a symbolic link is followed.
    #[n(0)]
    pub path: ByteString,
    /// Whether a directory is welcome, with all that is in it.
    #[cbor(n(1), default)]
    pub tree: bool,
    /// Wait for Go between the (single) Entry and its data.
    #[cbor(n(2), default)]
    pub wait_go: bool,
}

/// 0x13: what is at this path?
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Stat {
    /// The path.
    #[n(0)]
    pub path: ByteString,
    /// Whether to look through a symbolic link.
    #[cbor(n(1), default)]
    pub follow: bool,
}

/// 0x21: stop the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Shutdown {
    /// Off, or up again.
    #[n(0)]
    pub mode: ShutdownMode,
    /// Milliseconds between SIGTERM and SIGKILL to everything.
    #[cbor(n(1), default)]
    pub grace_ms: u64,
}

/// How a guest goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ShutdownMode {
    /// 0: power off.
    #[n(0)]
    PowerOff,
    /// 1: reset.
    #[n(1)]
    Reboot,
}

/// 0x22: move to another vsock port (after a restore under a new lease); answered by Listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Listen {
    /// The vsock port to listen on from now on.
    #[n(0)]
    pub port: u32,
}

impl Request {
    /// The kind byte of this message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Exec(_) => Kind::Exec,
            Self::Attach(_) => Kind::Attach,
            Self::Stdin(_) => Kind::Stdin,
            Self::StdinEof(_) => Kind::StdinEof,
            Self::Resize(_) => Kind::Resize,
            Self::Signal(_) => Kind::Signal,
            Self::Ack(_) => Kind::Ack,
            Self::ListSessions => Kind::ListSessions,
            Self::Put(_) => Kind::Put,
            Self::Get(_) => Kind::Get,
            Self::Go => Kind::Go,
            Self::Stat(_) => Kind::Stat,
            Self::Ping => Kind::Ping,
            Self::Shutdown(_) => Kind::Shutdown,
            Self::Listen(_) => Kind::Listen,
            Self::Entry(_) => Kind::Entry,
            Self::Done(_) => Kind::Done,
            Self::Error(_) => Kind::Error,
        }
    }

    /// Reads the payload of a frame.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the kind is none of a client's, or the payload is not what the kind says.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, DecodeError> {
        let known = Kind::from_byte(kind).ok_or(DecodeError::UnknownKind { kind })?;
        Ok(match known {
            Kind::Exec => Self::Exec(decode_map(known, payload)?),
            Kind::Attach => Self::Attach(decode_map(known, payload)?),
            Kind::Stdin => {
                let (offset, data) = raw_with_u64(known, payload)?;
                Self::Stdin(Stdin { offset, data: data.to_vec() })
            }
            Kind::StdinEof => {
                let (offset, rest) = raw_with_u64(known, payload)?;
                require_empty(known, rest)?;
                Self::StdinEof(StdinEof { offset })
            }
            Kind::Resize => Self::Resize(decode_map(known, payload)?),
            Kind::Signal => Self::Signal(decode_map(known, payload)?),
            Kind::Ack => Self::Ack(decode_map(known, payload)?),
            Kind::ListSessions => Self::ListSessions,
            Kind::Put => Self::Put(decode_map(known, payload)?),
            Kind::Get => Self::Get(decode_map(known, payload)?),
            Kind::Go => Self::Go,
            Kind::Stat => Self::Stat(decode_map(known, payload)?),
            Kind::Ping => Self::Ping,
            Kind::Shutdown => Self::Shutdown(decode_map(known, payload)?),
            Kind::Listen => Self::Listen(decode_map(known, payload)?),
            Kind::Entry => Self::Entry(decode_map(known, payload)?),
            Kind::Done => Self::Done(decode_map(known, payload)?),
            Kind::Error => Self::Error(decode_map(known, payload)?),
            Kind::Started
            | Kind::Output
            | Kind::Exit
            | Kind::StdinAck
            | Kind::Sessions
            | Kind::Ready
            | Kind::StatReply
            | Kind::Pong
            | Kind::Hello
            | Kind::Listening => return Err(DecodeError::WrongDirection { kind: known }),
        })
    }

    /// Appends this message, with its frame header, to `out`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLong`] if it does not fit into a frame.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        use super::frame::{encode_empty, encode_frame, encode_map};
        let kind = self.kind();
        match self {
            Self::Exec(m) => encode_map(kind, m, out),
            Self::Attach(m) => encode_map(kind, m, out),
            Self::Stdin(m) => encode_frame(kind, &[&m.offset.to_le_bytes(), &m.data], out),
            Self::StdinEof(m) => encode_frame(kind, &[&m.offset.to_le_bytes()], out),
            Self::Resize(m) => encode_map(kind, m, out),
            Self::Signal(m) => encode_map(kind, m, out),
            Self::Ack(m) => encode_map(kind, m, out),
            Self::Put(m) => encode_map(kind, m, out),
            Self::Get(m) => encode_map(kind, m, out),
            Self::Stat(m) => encode_map(kind, m, out),
            Self::Shutdown(m) => encode_map(kind, m, out),
            Self::Listen(m) => encode_map(kind, m, out),
            Self::Entry(m) => encode_map(kind, m, out),
            Self::Done(m) => encode_map(kind, m, out),
            Self::Error(m) => encode_map(kind, m, out),
            Self::ListSessions | Self::Go | Self::Ping => encode_empty(kind, out),
        }
    }

    /// This message as one frame.
    ///
    /// # Errors
    ///
    /// As [`Request::encode`].
    pub fn to_frame(&self) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        self.encode(&mut out)?;
        Ok(out)
    }
}
