//! Which message a frame carries.

/// The kind byte of a frame. Below 0x80 a client speaks, from 0x80 the agent; [`Kind::Entry`], [`Kind::Done`] and
/// [`Kind::Error`] are said by whichever side sends files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each names the message of the same name")]
pub enum Kind {
    Exec = 0x01,
    Attach = 0x02,
    Stdin = 0x03,
    StdinEof = 0x04,
    Resize = 0x05,
    Signal = 0x06,
    Ack = 0x07,
    ListSessions = 0x08,
    Put = 0x10,
    Get = 0x11,
    Go = 0x12,
    Stat = 0x13,
    Ping = 0x20,
    Shutdown = 0x21,
    Listen = 0x22,
    Started = 0x81,
    Output = 0x82,
    Exit = 0x83,
    StdinAck = 0x84,
    Sessions = 0x85,
    Error = 0x8f,
    Ready = 0x90,
    Entry = 0x91,
    Done = 0x92,
    StatReply = 0x93,
    Pong = 0xa0,
    Hello = 0xa1,
    Listening = 0xa2,
}

impl Kind {
    const ALL: [Self; 28] = [
        Self::Exec,
        Self::Attach,
        Self::Stdin,
        Self::StdinEof,
        Self::Resize,
        Self::Signal,
        Self::Ack,
        Self::ListSessions,
        Self::Put,
        Self::Get,
        Self::Go,
        Self::Stat,
        Self::Ping,
        Self::Shutdown,
        Self::Listen,
        Self::Started,
        Self::Output,
        Self::Exit,
        Self::StdinAck,
        Self::Sessions,
        Self::Error,
        Self::Ready,
        Self::Entry,
        Self::Done,
        Self::StatReply,
        Self::Pong,
        Self::Hello,
        Self::Listening,
    ];

    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The message's name, as in the documentation; for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "Exec",
            Self::Attach => "Attach",
            Self::Stdin => "Stdin",
            Self::StdinEof => "StdinEof",
            Self::Resize => "Resize",
            Self::Signal => "Signal",
            Self::Ack => "Ack",
            Self::ListSessions => "ListSessions",
            Self::Put => "Put",
            Self::Get => "Get",
            Self::Go => "Go",
            Self::Stat => "Stat",
            Self::Ping => "Ping",
            Self::Shutdown => "Shutdown",
            Self::Listen => "Listen",
            Self::Started => "Started",
            Self::Output => "Output",
            Self::Exit => "Exit",
            Self::StdinAck => "StdinAck",
            Self::Sessions => "Sessions",
            Self::Error => "Error",
            Self::Ready => "Ready",
            Self::Entry => "Entry",
            Self::Done => "Done",
            Self::StatReply => "StatReply",
            Self::Pong => "Pong",
            Self::Hello => "Hello",
            Self::Listening => "Listening",
        }
    }

    /// The kind that `byte` stands for, if this version knows it.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}
