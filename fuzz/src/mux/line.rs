//! Two honest ends of a line that loses, garbles and invents bytes.
//!
//! Whatever the line does, what arrives on a stream is a beginning of what was sent on it; and once the line is good, the
//! ends find each other and streams work.

use std::collections::{BTreeMap, VecDeque};

use bandsox_proto::mux::{CONTROL, Event, Mux, Role, StreamId};

use crate::script::Script;

struct End {
    mux: Mux,
    /// On its way to this end.
    wire: VecDeque<u8>,
    sent: BTreeMap<StreamId, Vec<u8>>,
    received: BTreeMap<StreamId, Vec<u8>>,
    open: Vec<StreamId>,
}

impl End {
    fn new(role: Role, epoch: u32) -> Self {
        Self {
            mux: Mux::new(role, epoch),
            wire: VecDeque::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    /// Passes on what the end has to say.
    fn speak(&mut self, to: &mut Self) {
        to.wire.extend(self.mux.pending());
        self.mux.sent(usize::MAX);
    }

    /// Takes `count` bytes off the line.
    fn hear(&mut self, count: usize) {
        let bytes: Vec<u8> = self.wire.drain(..count.min(self.wire.len())).collect();
        self.mux.receive(&bytes);
        while let Some(event) = self.mux.next_event() {
            match event {
                Event::Data(CONTROL, data) => self.mux.consumed(CONTROL, data.len()),
                Event::Data(id, data) => {
                    self.mux.consumed(id, data.len());
                    self.received.entry(id).or_default().extend_from_slice(&data);
                }
                Event::Opened(id) => {
                    self.mux.accept(id);
                    self.open.push(id);
                }
                Event::Down => self.open.clear(),
                Event::Reset(gone) => self.open.retain(|id| *id != gone),
                Event::Up | Event::Accepted(_) | Event::Fin(_) => {}
            }
        }
    }

    fn open(&mut self) -> Option<StreamId> {
        let id = self.mux.open()?;
        self.open.push(id);
        Some(id)
    }

    fn send(&mut self, id: StreamId, data: &[u8]) {
        let taken = self.mux.send(id, data);
        let taken = data.get(..taken).expect("no more than was given");
        self.sent.entry(id).or_default().extend_from_slice(taken);
    }

    /// Every stream brought a beginning of what `from` sent on it.
    fn check(&self, from: &Self) {
        for (id, data) in &self.received {
            let sent = from.sent.get(id).map(Vec::as_slice).unwrap_or_default();
            assert!(sent.starts_with(data), "stream {id}: {data:?} of {sent:?}");
        }
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (mut host, mut guest) = (End::new(Role::Host, 11), End::new(Role::Guest, 22));
    while step(&mut script, &mut host, &mut guest).is_some() {
        host.check(&guest);
        guest.check(&host);
    }
    recover(&mut host, &mut guest);
}

/// One decision of the script; it alternates between what happens to the one end and to the other.
fn step(script: &mut Script<'_>, host: &mut End, guest: &mut End) -> Option<()> {
    let action = script.byte()?;
    let (end, peer) = if action & 0x80 == 0 { (host, guest) } else { (guest, host) };
    match (action & 0x7f) % 9 {
        0 => {
            peer.speak(end);
            end.hear(usize::MAX);
        }
        1 => {
            peer.speak(end);
            end.hear(script.byte()?.into());
        }
        2 => {
            end.open();
        }
        3 => {
            let (at, data) = (usize::from(script.byte()?), script.counted()?);
            if let Some(id) = end.open.get(at.checked_rem(end.open.len()).unwrap_or(0)).copied() {
                end.send(id, data);
            }
        }
        4 => end.mux.tick(),
        // Lost, garbled, invented.
        5 => {
            let count = usize::from(script.byte()?).min(end.wire.len());
            end.wire.drain(..count);
        }
        6 => {
            let (at, bits) = (usize::from(script.byte()?), script.byte()?);
            if let Some(byte) = end.wire.get_mut(at) {
                *byte ^= bits;
            }
        }
        7 => script.counted()?.iter().for_each(|byte| end.wire.push_back(*byte)),
        _ => {
            let at = usize::from(script.byte()?);
            if let Some(id) = end.open.get(at.checked_rem(end.open.len()).unwrap_or(0)).copied() {
                end.mux.finish(id);
            }
        }
    }
    Some(())
}

/// The line is good from here on: what is sent arrives, if need be by another try after the link has come up again.
///
/// What looks like a long frame holds back what comes after it until the silence is noticed; one may hide another.
fn recover(host: &mut End, guest: &mut End) {
    let mut tried = None;
    for _ in 0..100 {
        exchange(host, guest);
        host.check(guest);
        guest.check(host);
        if let Some(id) = tried {
            if guest.received.get(&id).is_some_and(|data| data == LAST) {
                return;
            }
            tried = tried.filter(|id| host.open.contains(id));
        }
        if tried.is_none() && host.mux.is_up() {
            // What is left from the script may fill an end's table.
            for id in std::mem::take(&mut host.open) {
                host.mux.reset(id);
            }
            tried = host.open();
            tried.into_iter().for_each(|id| host.send(id, LAST));
        } else {
            host.mux.tick();
            guest.mux.tick();
        }
    }
    panic!("what is sent at last does not arrive");
}

const LAST: &[u8] = b"at last";

fn exchange(host: &mut End, guest: &mut End) {
    for _ in 0..4 {
        host.speak(guest);
        guest.hear(usize::MAX);
        guest.speak(host);
        host.hear(usize::MAX);
    }
}

/// A handshake, data both ways, and each kind of trouble.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let up: &[u8] = &[0, 0x80, 0, 0x80, 0, 0x80];
    let talk: &[u8] = &[2, 3, 1, 3, b'a', b'b', b'c', 0x80, 0x83, 0, 2, b'd', b'e', 0, 8, 0, 0x80];
    let lost: &[u8] = &[3, 0, 2, b'x', b'y', 0x85, 5, 0x80, 4, 0x84];
    let garbled: &[u8] = &[3, 0, 2, b'x', b'y', 0x81, 0, 0x86, 3, 1, 0x80];
    let invented: &[u8] = &[0x87, 4, 0xb5, 0x5a, 3, 9, 0x80, 2, 0x80];
    vec![
        [up, talk].concat(),
        [up, talk, lost, up].concat(),
        [up, garbled, up, talk, invented].concat(),
    ]
}
