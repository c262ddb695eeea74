//! A peer that sends anything.

use std::collections::BTreeMap;

use bandsox_proto::mux::{CONTROL, Event, INITIAL_WINDOW, MAGIC, MAX_STREAMS, Mux, Role, StreamId};

use crate::script::Script;

const EPOCH: u32 = 7;

/// One end, and what it may have told its user so far.
struct Scene {
    mux: Mux,
    /// The streams that are there.
    streams: BTreeMap<StreamId, Stream>,
    /// Number of the peer's next frame.
    seq: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stream {
    /// Bytes that came and were not consumed.
    waiting: usize,
    we_finished: bool,
    peer_finished: bool,
}

impl Stream {
    fn is_over(self) -> bool {
        self.we_finished && self.peer_finished
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let Some(role) = script.choose([Role::Host, Role::Guest]) else { return };
    let mut scene = Scene { mux: Mux::new(role, EPOCH), streams: BTreeMap::new(), seq: 0 };
    while scene.step(&mut script).is_some() {
        scene.look();
    }
}

impl Scene {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.byte()? % 12 {
            0 => self.mux.receive(script.counted()?),
            1 => self.hello(script)?,
            2 => {
                let (kind, stream) = (script.byte()? % 8, self.stream(script)?);
                let payload = script.counted()?;
                self.frame(kind, stream, payload);
            }
            // A large payload for little input.
            3 => {
                let (stream, length) = (self.stream(script)?, script.half()? % 4097);
                self.frame(3, stream, &vec![b'x'; length.into()]);
            }
            4 => {
                if let Some(id) = self.mux.open() {
                    assert_eq!(self.streams.insert(id, Stream::default()), None);
                }
            }
            5 => {
                let (id, data) = (self.stream(script)?, script.counted()?);
                let credit = self.mux.credit(id);
                assert!(self.mux.send(id, data) <= credit.min(data.len()));
            }
            6 => {
                let id = self.stream(script)?;
                self.mux.finish(id);
                self.end(id, |stream| stream.we_finished = true);
            }
            7 => {
                let id = self.stream(script)?;
                self.mux.reset(id);
                self.streams.remove(&id);
            }
            8 => {
                let id = self.stream(script)?;
                if let Some(stream) = self.streams.get_mut(&id) {
                    self.mux.consumed(id, std::mem::take(&mut stream.waiting));
                }
            }
            9 => self.mux.accept(self.stream(script)?),
            10 => self.mux.tick(),
            _ => self.seq = script.byte()?,
        }
        Some(())
    }

    /// The peer says who it is, and mostly that it knows us.
    fn hello(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (peer, ack, flags) = (script.byte()?, script.byte()?, script.byte()?);
        let ack = EPOCH.wrapping_add(ack.into());
        let mut payload = vec![1, flags, 0, 0];
        payload.extend_from_slice(&u32::from(peer).to_le_bytes());
        payload.extend_from_slice(&ack.to_le_bytes());
        self.frame(7, CONTROL, &payload);
        Some(())
    }

    /// A frame whose checksum and number are right.
    fn frame(&mut self, kind: u8, stream: StreamId, payload: &[u8]) {
        let mut covered = vec![kind, self.seq];
        covered.extend_from_slice(&stream.to_le_bytes());
        covered.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&covered);
        crc.update(payload);
        let crc = crc.finalize().to_le_bytes();
        self.seq = self.seq.wrapping_add(1);
        self.mux.receive(&[&MAGIC, covered.as_slice(), &crc, payload].concat());
    }

    fn stream(&self, script: &mut Script<'_>) -> Option<StreamId> {
        Some(script.byte()?.into())
    }

    fn begin(&mut self, id: StreamId) {
        assert_eq!(self.streams.insert(id, Stream::default()), None);
    }

    /// One side sends no more; a stream that both have finished leaves without an event.
    fn end(&mut self, id: StreamId, finish: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            finish(stream);
            if stream.is_over() {
                self.streams.remove(&id);
            }
        }
    }

    /// What the user is told makes sense, and the peer makes us hold no more than its windows.
    fn look(&mut self) {
        while let Some(event) = self.mux.next_event() {
            match event {
                Event::Up => self.begin(CONTROL),
                Event::Down => self.streams.clear(),
                Event::Opened(id) => self.begin(id),
                Event::Data(id, data) => {
                    let stream = self.streams.get_mut(&id).expect("data on a stream that is there");
                    stream.waiting += data.len();
                    assert!(stream.waiting <= INITIAL_WINDOW as usize);
                }
                Event::Reset(id) => assert!(self.streams.remove(&id).is_some()),
                Event::Accepted(id) => assert!(self.streams.contains_key(&id)),
                Event::Fin(id) => {
                    assert!(self.streams.contains_key(&id));
                    self.end(id, |stream| stream.peer_finished = true);
                }
            }
        }
        assert!(self.mux.is_up() || self.streams.is_empty());
        assert!(self.streams.len() <= MAX_STREAMS);
        // Answers: at most a few frames for each frame that came.
        assert!(self.mux.pending().len() <= 64 * 1024, "{} bytes", self.mux.pending().len());
        self.mux.sent(usize::MAX);
    }
}

/// A peer that opens, sends, finishes and resets.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let up: &[u8] = &[1, 9, 0, 1];
    let peer_opens: &[u8] = &[2, 1, 2, 0, 9, 2, 2, 3, 2, 3, b'a', b'b', b'c', 8, 2, 2, 5, 2, 0];
    let we_open: &[u8] = &[4, 2, 2, 1, 0, 5, 1, 2, b'h', b'i', 2, 4, 1, 4, 9, 9, 0, 0, 6, 1];
    let bulk: &[u8] = &[3, 0, 0, 16, 3, 0, 0, 16, 8, 0, 3, 0, 0, 16];
    let ends: &[u8] = &[2, 6, 1, 0, 11, 200, 2, 3, 0, 1, b'x', 10, 0, 3, 0xb5, 0x5a, 3];
    let flood = [3, 0, 0, 16].repeat(20);
    vec![
        [&[0], up, flood.as_slice()].concat(),
        [&[0], up, peer_opens, we_open, bulk, ends].concat(),
        [&[1], up, bulk, ends].concat(),
    ]
}
