//! QEMU's side of the conversation, byte by byte.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bandsox_vsock::Handle;
use rustix::fs::MemfdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::{Front, FrontEvent};

const GENEROUS: Duration = Duration::from_secs(20);

// Source: QEMU, `docs/interop/vhost-user.rst`, "Front-end message types".
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_MEM_TABLE: u32 = 5;
const GET_VRING_BASE: u32 = 11;
const SET_PROTOCOL_FEATURES: u32 = 16;
const GET_CONFIG: u32 = 24;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const CONFIG: u64 = 1 << 9;

struct Qemu {
    socket: UnixStream,
    events: Receiver<FrontEvent>,
    _front: Front,
}

impl Qemu {
    fn connected(cid: u32) -> Self {
        let (socket, theirs) = UnixStream::pair().expect("a pair");
        socket.set_read_timeout(Some(GENEROUS)).expect("set");
        let (sender, events) = mpsc::channel();
        let device = Handle::start().expect("a device");
        let front = Front::serve(theirs, device, cid, move |event| {
            sender.send(event).ok();
        });
        Self { socket, events, _front: front.expect("a front") }
    }

    fn message(request: u32, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).expect("short");
        [&request.to_ne_bytes(), &1_u32.to_ne_bytes(), &size.to_ne_bytes(), payload].concat()
    }

    fn say(&mut self, request: u32, payload: &[u8]) {
        self.socket.write_all(&Self::message(request, payload)).expect("written");
    }

    fn say_with(&mut self, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)), "there is room");
        let bytes = Self::message(request, payload);
        let bytes = [std::io::IoSlice::new(&bytes)];
        rustix::net::sendmsg(&self.socket, &bytes, &mut ancillary, SendFlags::empty())
            .expect("sent");
    }

    fn answer(&mut self, len: usize) -> Vec<u8> {
        let mut header = [0; 12];
        self.socket.read_exact(&mut header).expect("an answer");
        let mut payload = vec![0; len];
        self.socket.read_exact(&mut payload).expect("its payload");
        payload
    }

    fn last_event(&self) -> FrontEvent {
        self.events.recv_timeout(GENEROUS).expect("an event")
    }
}

#[test]
fn the_guests_address_is_in_the_configuration() {
    let mut qemu = Qemu::connected(42);
    qemu.say(GET_FEATURES, &[]);
    let features = u64::from_ne_bytes(qemu.answer(8).try_into().expect("8 bytes"));
    qemu.say(SET_FEATURES, &features.to_ne_bytes());
    qemu.say(SET_PROTOCOL_FEATURES, &CONFIG.to_ne_bytes());

    // Offset, size, flags, and as many bytes of room.
    let ask: Vec<u8> = [0_u32, 8, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    qemu.say(GET_CONFIG, &ask);
    let answer = qemu.answer(20);

    assert_ne!(features & PROTOCOL_FEATURES, 0);
    assert_eq!(answer[12..], 42_u64.to_le_bytes());
}

#[test]
fn a_qemu_that_goes_is_told_of() {
    let qemu = Qemu::connected(3);

    qemu.socket.shutdown(std::net::Shutdown::Both).expect("shut down");

    assert!(matches!(qemu.last_event(), FrontEvent::HungUp));
}

#[test]
fn a_qemu_that_goes_in_the_middle_of_a_word_is_told_of() {
    let mut qemu = Qemu::connected(3);

    qemu.socket.write_all(&[1, 0, 0]).expect("written");
    qemu.socket.shutdown(std::net::Shutdown::Both).expect("shut down");

    assert!(matches!(qemu.last_event(), FrontEvent::HungUp));
}

#[test]
fn nonsense_ends_the_conversation() {
    let mut too_long = Qemu::message(GET_FEATURES, &[]);
    too_long[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
    for words in [vec![0xff; 12], too_long, Qemu::message(GET_VRING_BASE, &[9; 8])] {
        let mut qemu = Qemu::connected(3);

        qemu.socket.write_all(&words).expect("written");

        assert!(matches!(qemu.last_event(), FrontEvent::Failed(_)), "{words:?}");
        assert_eq!(qemu.socket.read(&mut [0]).expect("an end"), 0);
    }
}

#[test]
fn memory_that_could_shrink_ends_the_conversation() {
    let mut qemu = Qemu::connected(3);
    let memory: OwnedFd =
        rustix::fs::memfd_create(c"test", MemfdFlags::ALLOW_SEALING).expect("a memfd");
    rustix::fs::ftruncate(&memory, 0x1000).expect("its size");
    // One region: guest address, bytes, QEMU's address, offset.
    let mut table = [1_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
    table.extend([0_u64, 0x1000, 0x7000_0000, 0].iter().flat_map(|word| word.to_ne_bytes()));

    qemu.say_with(SET_MEM_TABLE, &table, &[memory.as_fd()]);

    let FrontEvent::Failed(error) = qemu.last_event() else { panic!("it was taken") };
    assert!(format!("{error:?}").contains("NotSealed"), "{error:?}");
}
