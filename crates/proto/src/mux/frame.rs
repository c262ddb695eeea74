//! Frames on the line, and finding them again after garbage.
//!
//! `B5 5A`, u8 kind, u8 sequence number, u32 LE stream, u16 LE length, u32 LE crc32 (IEEE) over kind to length and the
//! payload, payload.

/// What every frame begins with.
pub const MAGIC: [u8; 2] = [0xB5, 0x5A];

/// Longest payload, in bytes.
pub const MAX_DATA: usize = 4096;

const HEADER: usize = 14;

/// Zeros that end whatever a receiver took for the beginning of a frame.
pub(super) const PADDING: usize = HEADER + MAX_DATA;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// 1: the sender opens this stream.
    Open = 1,
    /// 2: the opened stream is taken.
    Accept = 2,
    /// 3: bytes.
    Data = 3,
    /// 4: u32 LE more bytes may be sent.
    Window = 4,
    /// 5: no more bytes from this side.
    Fin = 5,
    /// 6: the stream is over, both ways.
    Reset = 6,
    /// 7: who is there; see [`Hello`].
    Hello = 7,
    /// 8: nothing whole has arrived for a while; the peer is asked for [`PADDING`] bytes that mean nothing.
    Pad = 8,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Open,
            2 => Self::Accept,
            3 => Self::Data,
            4 => Self::Window,
            5 => Self::Fin,
            6 => Self::Reset,
            7 => Self::Hello,
            8 => Self::Pad,
            _ => return None,
        })
    }
}

/// A frame that came over the line whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) seq: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// Payload of [`FrameKind::Hello`]: u8 version (1), u8 flags (bit 0: up), two zero bytes, u32 LE epoch, u32 LE ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// A number that the sender has not used before on this line; not 0.
    pub(super) epoch: u32,
    /// The last epoch that the sender has seen from its peer; 0 before any.
    pub(super) ack: u32,
    /// Whether the sender takes the link to be up, counting this Hello's answer to what it has just heard.
    pub(super) up: bool,
}

const HELLO_VERSION: u8 = 1;

impl Hello {
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let [a, b, c, d] = self.epoch.to_le_bytes();
        let [e, f, g, h] = self.ack.to_le_bytes();
        [HELLO_VERSION, u8::from(self.up), 0, 0, a, b, c, d, e, f, g, h]
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [HELLO_VERSION, flags, _, _, a, b, c, d, e, f, g, h] = *bytes else {
            return None;
        };
        let epoch = u32::from_le_bytes([a, b, c, d]);
        let ack = u32::from_le_bytes([e, f, g, h]);
        (epoch != 0).then_some(Self { epoch, ack, up: flags & 1 != 0 })
    }
}

/// Appends a frame to `out`. `payload` has at most [`MAX_DATA`] bytes.
pub(super) fn encode(kind: FrameKind, seq: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(payload.len()).expect("callers cut payloads to MAX_DATA");
    let mut covered = [0_u8; 8];
    let [k, s, a, b, c, d, l, h] = &mut covered;
    (*k, *s) = (kind as u8, seq);
    [*a, *b, *c, *d] = stream.to_le_bytes();
    [*l, *h] = len.to_le_bytes();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&covered);
    out.extend_from_slice(&checksum(&covered, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

fn checksum(covered: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(covered);
    crc.update(payload);
    crc.finalize()
}

/// Cuts frames out of what comes over the line; holds at most one frame.
#[derive(Debug, Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
}

impl Parser {
    /// Takes `bytes` and passes every whole frame to `found`. Bytes that belong to no frame are dropped.
    pub(super) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Frame)) {
        self.buffer.extend_from_slice(bytes);
        let mut rest: &[u8] = &self.buffer;
        loop {
            match next(rest) {
                Next::Frame(frame, used) => {
                    found(frame);
                    rest = rest.get(used..).unwrap_or_default();
                }
                Next::Garbage(used) => rest = rest.get(used..).unwrap_or_default(),
                Next::Incomplete => break,
            }
        }
        let used = self.buffer.len().saturating_sub(rest.len());
        self.buffer.drain(..used);
    }
}

enum Next {
    Frame(Frame, usize),
    Garbage(usize),
    Incomplete,
}

fn next(bytes: &[u8]) -> Next {
    if let Some(at) = memchr::memchr(MAGIC[0], bytes).filter(|at| *at > 0) {
        return Next::Garbage(at);
    }
    match bytes {
        [] => return Next::Incomplete,
        [first, ..] if *first != MAGIC[0] => return Next::Garbage(bytes.len()),
        [_, second, ..] if *second != MAGIC[1] => return Next::Garbage(1),
        _ => {}
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Next::Incomplete;
    };
    let [_, _, covered @ .., w, x, y, z] = header;
    let &[kind, seq, a, b, c, d, l, h] = covered;
    let len = usize::from(u16::from_le_bytes([l, h]));
    let (Some(kind), true) = (FrameKind::from_byte(kind), len <= MAX_DATA) else {
        return Next::Garbage(1);
    };
    let Some(payload) = rest.get(..len) else {
        return Next::Incomplete;
    };
    if checksum(covered, payload) != u32::from_le_bytes([*w, *x, *y, *z]) {
        return Next::Garbage(1);
    }
    let stream = u32::from_le_bytes([a, b, c, d]);
    let frame = Frame { kind, seq, stream, payload: payload.to_vec() };
    Next::Frame(frame, HEADER.saturating_add(len))
}
