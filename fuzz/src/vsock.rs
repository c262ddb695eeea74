//! The vsock device, driven by a guest that keeps some rules and breaks others.

mod guest;

use std::io::{Read as _, Write as _};
use std::sync::mpsc::Receiver;

use bandsox_vsock::fuzzing::{Bench, MOST_CONNECTIONS};
use bandsox_vsock::spec::{HOST_CID, TYPE_STREAM};
use bandsox_vsock::{ConnectError, Driver, Header, Stream};

use self::guest::{Guest, Part};
use crate::script::Script;

const CID: u64 = 3;
const LISTENED: u32 = 1;

/// First byte: how the queues are set up; then what guest and host do.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let Some(setup) = script.byte() else { return };
    let mut scene = Scene {
        guest: Guest::new(setup),
        bench: Bench::new().expect("descriptors"),
        streams: Vec::new(),
        asked: Vec::new(),
    };
    scene.bench.listen(LISTENED);
    scene.header_round_trip(bytes);
    if scene.bench.attach(scene.guest.attachment(Driver::Fresh, None)).is_err() {
        return;
    }
    while scene.step(&mut script).is_some() {}
    scene.pass();
    scene.bench.detach();
    scene.pass();
}

struct Scene {
    guest: Guest,
    bench: Bench,
    streams: Vec<Stream>,
    asked: Vec<Receiver<Result<Stream, ConnectError>>>,
}

impl Scene {
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.byte()? % 12 {
            0..=2 => self.packet(script)?,
            3 => {
                let (length, parts) = (script.byte()?, script.byte()?);
                self.guest.post_buffer(u32::from(length) * 16, parts % 4);
            }
            4 => {
                let (at, bytes) = (script.half()?, script.counted()?);
                self.guest.scribble(at.into(), bytes);
            }
            5 => self.descriptor(script)?,
            6 => self.guest.make_available(script.byte()? & 1 == 0, script.half()?),
            7 => {
                let port = u32::from(script.byte()? % 4);
                self.asked.push(self.bench.connect(port));
            }
            8 => self.user(script)?,
            9 => {
                let driver = script.choose([Driver::Fresh, Driver::Resumed])?;
                let at = self.bench.detach();
                let attachment = self.guest.attachment(driver, at);
                if self.bench.attach(attachment).is_err() {
                    return None;
                }
            }
            10 => self.guest.take_used(),
            _ => {}
        }
        self.pass();
        Some(())
    }

    /// A packet that is well formed, from a few ports to a few ports, saying anything.
    fn packet(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (ports, op, flags) = (script.byte()?, script.byte()?, script.byte()?);
        let length = u32::from(script.byte()?) * if flags & 0x80 == 0 { 1 } else { 64 };
        // What a host's first connections come from is known.
        let host_port = match ports >> 4 & 3 {
            0 => LISTENED,
            1 => 0x4000_0000,
            2 => 0x4000_0001,
            _ => 2,
        };
        let odd = script.byte()?;
        let header = Header {
            src_cid: if odd & 1 == 0 { CID } else { 9 },
            dst_cid: if odd & 2 == 0 { HOST_CID } else { 1 },
            src_port: u32::from(ports & 3),
            dst_port: host_port,
            len: if odd & 4 == 0 { length } else { script.word()? },
            kind: if odd & 8 == 0 { TYPE_STREAM } else { 2 },
            op: u16::from(op % 10),
            flags: u32::from(flags & 0x7f),
            buf_alloc: if odd & 16 == 0 { 1 << 16 } else { script.word()? },
            fwd_cnt: if odd & 32 == 0 { 0 } else { script.word()? },
        };
        self.guest.send(&header, length, odd >> 6);
        Some(())
    }

    /// A descriptor that says anything, in the one queue or the other.
    fn descriptor(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (index, flags) = (script.byte()?, script.byte()?);
        let at = if flags & 0x80 == 0 { script.half()?.into() } else { script.long()? };
        let len = if flags & 0x40 == 0 { script.byte()?.into() } else { script.word()? };
        let (next, is_rx) = (script.byte()?, flags & 0x20 == 0);
        let part = Part { at, len, flags: u16::from(flags & 7), next: next.into() };
        self.guest.write_descriptor(is_rx, index.into(), part);
        Some(())
    }

    /// What a user of the host does with a stream.
    fn user(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (which, action) = (usize::from(script.byte()?), script.byte()?);
        if self.streams.is_empty() {
            return Some(());
        }
        let at = which % self.streams.len();
        let Some(stream) = self.streams.get(at) else { return Some(()) };
        let mut socket = stream.socket();
        socket.set_nonblocking(true).expect("a socket");
        match action % 4 {
            0 => {
                // As much as fits: errors and less are as good here.
                drop(socket.write(&vec![b'u'; usize::from(script.half()?)]));
            }
            1 => {
                drop(socket.read(&mut vec![0; usize::from(script.half()?)]));
            }
            2 => {
                socket.shutdown(script.choose(SHUTDOWNS)?).ok();
            }
            _ => drop(self.streams.remove(at)),
        }
        Some(())
    }

    fn pass(&mut self) {
        let accepted = self.bench.pass().expect("descriptors");
        self.streams.extend(accepted);
        let Self { asked, streams, .. } = self;
        asked.retain(|answer| match answer.try_recv() {
            Ok(Ok(stream)) => {
                streams.push(stream);
                false
            }
            Ok(Err(_)) => false,
            Err(_) => true,
        });
        assert!(self.bench.stats().connections <= MOST_CONNECTIONS as u64);
        self.guest.check_used();
    }

    fn header_round_trip(&self, bytes: &[u8]) {
        if let Some(header) = bytes.first_chunk() {
            assert_eq!(&Header::from_bytes(header).to_bytes(), header);
        }
    }
}

const SHUTDOWNS: [std::net::Shutdown; 3] =
    [std::net::Shutdown::Read, std::net::Shutdown::Write, std::net::Shutdown::Both];

/// Connections both ways with data, then chains that are none.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let buffers: &[u8] = &[3, 20, 0, 3, 20, 1, 3, 255, 2, 3, 20, 3];
    // Request, data, credit request, shutdown, reset of a connection from the guest.
    let accepted: &[u8] = &[0, 1, 1, 0, 0, 0, 0, 1, 5, 0, 9, 64, 0, 1, 7, 0, 0, 0, 10];
    let user: &[u8] = &[8, 0, 0, 100, 0, 8, 0, 1, 50, 0, 10, 0, 1, 4, 3, 0, 0, 0, 1, 3, 0, 0, 0];
    let connected: &[u8] = &[7, 1, 0, 0x11, 2, 0, 0, 0, 0, 0x11, 5, 0x80, 9, 0, 8, 0, 0, 9, 0, 10];
    let credit: &[u8] = &[0, 1, 6, 0, 0, 48, 0, 0, 0, 0, 9, 9, 9, 9, 0, 1, 5, 0, 3, 4, 9, 0, 0, 0];
    let chains: &[u8] = &[
        5, 200, 0x21, 0, 0x40, 44, 201, 5, 201, 0xe1, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 3, 6, 1,
        200, 0,
    ];
    let scribbles: &[u8] = &[4, 0, 0x10, 4, 1, 2, 3, 4, 9, 1, 10, 6, 0, 9, 9];
    let whole = [buffers, accepted, user, connected, credit, buffers, chains, scribbles];
    vec![
        [&[0], buffers, accepted, user, credit].concat(),
        [&[1], buffers, connected, chains].concat(),
        [&[3], whole.concat().as_slice()].concat(),
    ]
}
