//! The mux as a state machine: bytes and wishes in, bytes and events out.

use std::collections::{BTreeMap, VecDeque};

use crate::mux::frame::{Frame, FrameKind, Hello, MAX_DATA, PADDING, Parser, encode};

/// Number of a stream. The host opens odd ones, the guest even ones.
pub type StreamId = u32;

/// The stream that is there on both sides as soon as the link is up.
pub const CONTROL: StreamId = 0;

/// Bytes that may be sent on a new stream before the first Window.
pub const INITIAL_WINDOW: u32 = 64 * 1024;

/// Most streams at once; an Open beyond is answered by Reset.
pub const MAX_STREAMS: usize = 64;

/// Which end of the line this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The monitor; opens odd streams.
    Host,
    /// The agent; opens even streams.
    Guest,
}

/// What happened on the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both sides know each other; [`CONTROL`] is open, no other stream is.
    Up,
    /// Loss, or a peer that started anew: every stream, [`CONTROL`] included, is gone.
    Down,
    /// The peer opened a stream; answer with [`Mux::accept`] or [`Mux::reset`].
    Opened(StreamId),
    /// The peer took our stream.
    Accepted(StreamId),
    /// Bytes for a stream; give their number to [`Mux::consumed`] when they have been passed on.
    Data(StreamId, Vec<u8>),
    /// The peer sends no more on this stream.
    Fin(StreamId),
    /// The peer ended this stream; it is gone.
    Reset(StreamId),
}

/// One end of a line. See the module's header for its two states.
#[derive(Debug)]
pub struct Mux {
    role: Role,
    epoch: u32,
    peer_epoch: u32,
    up: bool,
    /// Whether anything but Hello was sent since the link came up.
    spoke: bool,
    parser: Parser,
    next_out: u8,
    next_in: u8,
    out: Vec<u8>,
    events: VecDeque<Event>,
    streams: BTreeMap<StreamId, Stream>,
    next_id: StreamId,
    /// Ticks since a whole frame arrived.
    silence: u32,
}

#[derive(Debug)]
struct Stream {
    /// Bytes that may still be sent.
    credit: u32,
    /// Bytes that the peer may still send.
    granted: u32,
    /// Bytes passed on and not yet granted again.
    consumed: u32,
    accepted: bool,
    fin_sent: bool,
    fin_received: bool,
}

impl Stream {
    fn new(accepted: bool) -> Self {
        Self {
            credit: INITIAL_WINDOW,
            granted: INITIAL_WINDOW,
            consumed: 0,
            accepted,
            fin_sent: false,
            fin_received: false,
        }
    }
}

impl Mux {
    /// A fresh end; its Hello waits to be sent. `epoch` is a random number, different at every start.
    #[must_use]
    pub fn new(role: Role, epoch: u32) -> Self {
        let mut mux = Self {
            role,
            epoch: epoch.max(1),
            peer_epoch: 0,
            up: false,
            spoke: false,
            parser: Parser::default(),
            next_out: 0,
            next_in: 0,
            out: Vec::new(),
            events: VecDeque::new(),
            streams: BTreeMap::new(),
            next_id: 0,
            silence: 0,
        };
        mux.say_hello();
        mux
    }

    /// Whether streams can be opened.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Call about once a second: says Hello again while nobody has answered, and makes the loss of a last frame
    /// noticeable while streams are open. After some silence it helps either side out of what looked like the beginning of
    /// a long frame.
    pub fn tick(&mut self) {
        if !self.up {
            self.say_hello();
        } else if self.needs_tick() {
            self.put(FrameKind::Window, CONTROL, &0_u32.to_le_bytes());
        } else {
            return;
        }
        self.silence = self.silence.saturating_add(1);
        // Ever more rarely, since a peer that is paused or gone has no use for it.
        if self.silence > 1 && self.silence.is_power_of_two() {
            self.pad();
            self.put(FrameKind::Pad, CONTROL, &[]);
        }
    }

    /// What is on its way already does as well.
    fn pad(&mut self) {
        if self.out.len() < PADDING {
            self.out.resize(self.out.len().saturating_add(PADDING), 0);
        }
    }

    /// Whether [`Mux::tick`] has anything to do: an idle link needs no clock.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        !self.up || self.streams.len() > 1
    }

    /// Takes what came over the line.
    pub fn receive(&mut self, bytes: &[u8]) {
        let mut frames = Vec::new();
        self.parser.feed(bytes, |frame| frames.push(frame));
        for frame in frames {
            self.take(frame);
        }
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What waits to be sent over the line.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.out
    }

    /// The first `count` bytes of [`Mux::pending`] have been sent.
    pub fn sent(&mut self, count: usize) {
        self.out.drain(..count.min(self.out.len()));
    }

    /// Opens a stream; data may be sent at once. `None` while the link is down or full.
    pub fn open(&mut self) -> Option<StreamId> {
        if !self.up || self.streams.len() >= MAX_STREAMS {
            return None;
        }
        let first = match self.role {
            Role::Host => 1,
            Role::Guest => 2,
        };
        loop {
            self.next_id = match self.next_id {
                0 => first,
                id => id.checked_add(2).unwrap_or(first),
            };
            if !self.streams.contains_key(&self.next_id) {
                break;
            }
        }
        let id = self.next_id;
        self.streams.insert(id, Stream::new(false));
        self.put(FrameKind::Open, id, &[]);
        Some(id)
    }

    /// Takes a stream that the peer opened.
    pub fn accept(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.accepted
        {
            stream.accepted = true;
            self.put(FrameKind::Accept, id, &[]);
        }
    }

    /// How many bytes the peer has room for on this stream.
    #[must_use]
    pub fn credit(&self, id: StreamId) -> usize {
        self.streams
            .get(&id)
            .filter(|stream| !stream.fin_sent)
            .map_or(0, |stream| usize::try_from(stream.credit).unwrap_or(usize::MAX))
    }

    /// Sends at most one frame from the front of `data`; returns how many bytes were taken.
    pub fn send(&mut self, id: StreamId, data: &[u8]) -> usize {
        let count = data.len().min(MAX_DATA).min(self.credit(id));
        let (Some(piece), Some(stream)) = (data.get(..count), self.streams.get_mut(&id)) else {
            return 0;
        };
        if count > 0 {
            stream.credit = stream.credit.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
            self.put(FrameKind::Data, id, piece);
        }
        count
    }

    /// Says that no more will be sent on this stream.
    pub fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.fin_sent
        {
            stream.fin_sent = true;
            self.put(FrameKind::Fin, id, &[]);
            self.forget_if_over(id);
        }
    }

    /// Ends a stream both ways; no event follows.
    pub fn reset(&mut self, id: StreamId) {
        if self.streams.remove(&id).is_some() {
            self.put(FrameKind::Reset, id, &[]);
        }
    }

    /// `count` bytes of [`Event::Data`] have been passed on, so the peer may send as many again.
    pub fn consumed(&mut self, id: StreamId, count: usize) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        stream.consumed = stream.consumed.saturating_add(count);
        // A grant per frame would double the traffic of a slow line.
        if stream.consumed >= INITIAL_WINDOW / 4 && !stream.fin_received {
            let grant = stream.consumed;
            stream.consumed = 0;
            stream.granted = stream.granted.saturating_add(grant);
            self.put(FrameKind::Window, id, &grant.to_le_bytes());
        }
    }

    fn put(&mut self, kind: FrameKind, id: StreamId, payload: &[u8]) {
        self.spoke |= kind != FrameKind::Hello;
        encode(kind, self.next_out, id, payload, &mut self.out);
        self.next_out = self.next_out.wrapping_add(1);
    }

    fn say_hello(&mut self) {
        let hello = Hello { epoch: self.epoch, ack: self.peer_epoch, up: self.up };
        self.put(FrameKind::Hello, CONTROL, &hello.to_bytes());
    }

    fn take(&mut self, frame: Frame) {
        let expected = self.next_in;
        self.next_in = frame.seq.wrapping_add(1);
        self.silence = 0;
        if frame.kind == FrameKind::Pad {
            self.pad();
        }
        if frame.kind == FrameKind::Hello {
            if let Some(hello) = Hello::from_bytes(&frame.payload) {
                self.take_hello(hello);
            }
        } else if self.up && frame.seq != expected {
            self.restart();
        } else if self.up {
            self.take_stream_frame(frame);
        }
    }

    /// Gives all streams up and asks the peer to do the same.
    fn restart(&mut self) {
        self.epoch = self.epoch.wrapping_add(1).max(1);
        self.go_down();
        self.say_hello();
    }

    fn go_down(&mut self) {
        self.streams.clear();
        if self.up {
            self.up = false;
            self.events.push_back(Event::Down);
        }
    }

    /// The handshake. It ends with both sides up whatever was lost on the way, and a side is up only once the peer has
    /// named its present epoch, so that frames of an earlier life are never taken for this one's.
    fn take_hello(&mut self, hello: Hello) {
        let names_us = hello.ack == self.epoch;
        if hello.epoch != self.peer_epoch {
            self.peer_epoch = hello.epoch;
            self.go_down();
            if names_us {
                self.go_up();
            }
            self.say_hello();
        } else if !self.up && names_us {
            self.go_up();
            if !hello.up {
                self.say_hello();
            }
        } else if self.up && !hello.up {
            // The peer missed our answer. What we have sent since, it has ignored.
            if self.spoke { self.restart() } else { self.say_hello() }
        }
    }

    fn go_up(&mut self) {
        self.up = true;
        self.spoke = false;
        self.streams.insert(CONTROL, Stream::new(true));
        self.events.push_back(Event::Up);
    }

    fn take_stream_frame(&mut self, frame: Frame) {
        let id = frame.stream;
        match frame.kind {
            FrameKind::Open => self.take_open(id),
            FrameKind::Accept => {
                let ours = self.is_ours(id);
                if let Some(stream) = self.streams.get_mut(&id)
                    && !stream.accepted
                    && ours
                {
                    stream.accepted = true;
                    self.events.push_back(Event::Accepted(id));
                }
            }
            FrameKind::Data => self.take_data(id, frame.payload),
            FrameKind::Window => {
                if let (Some(stream), Ok(more)) =
                    (self.streams.get_mut(&id), <[u8; 4]>::try_from(&*frame.payload))
                {
                    stream.credit = stream.credit.saturating_add(u32::from_le_bytes(more));
                }
            }
            FrameKind::Fin => {
                if let Some(stream) = self.streams.get_mut(&id)
                    && !stream.fin_received
                {
                    stream.fin_received = true;
                    self.events.push_back(Event::Fin(id));
                    self.forget_if_over(id);
                }
            }
            FrameKind::Reset => {
                if self.streams.remove(&id).is_some() {
                    self.events.push_back(Event::Reset(id));
                }
            }
            FrameKind::Hello | FrameKind::Pad => {}
        }
    }

    fn is_ours(&self, id: StreamId) -> bool {
        match self.role {
            Role::Host => id % 2 == 1,
            Role::Guest => id != CONTROL && id.is_multiple_of(2),
        }
    }

    fn take_open(&mut self, id: StreamId) {
        if id == CONTROL || self.is_ours(id) || self.streams.contains_key(&id) {
            return;
        }
        if self.streams.len() >= MAX_STREAMS {
            self.put(FrameKind::Reset, id, &[]);
            return;
        }
        self.streams.insert(id, Stream::new(false));
        self.events.push_back(Event::Opened(id));
    }

    fn take_data(&mut self, id: StreamId, payload: Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        match stream.granted.checked_sub(len) {
            Some(left) if !stream.fin_received => {
                stream.granted = left;
                self.events.push_back(Event::Data(id, payload));
            }
            _ => {
                // More than it may send: a peer that keeps to no window would fill our memory.
                self.reset(id);
                self.events.push_back(Event::Reset(id));
            }
        }
    }

    fn forget_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(|stream| stream.fin_sent && stream.fin_received) {
            self.streams.remove(&id);
        }
    }
}
