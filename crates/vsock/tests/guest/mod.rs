//! The driver's side of the device, in this process: a guest that does exactly what a test says.

mod queue;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bandsox_vsock::spec::{HEADER_LEN, HOST_CID, Op, TYPE_STREAM};
use bandsox_vsock::{Attachment, Driver, Handle, Header, Positions};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub(crate) use self::queue::{DriverQueue, Notifications, Part};

/// No test waits longer than this for what must happen.
pub(crate) const GENEROUS: Duration = Duration::from_secs(20);

pub(crate) const CID: u32 = 3;

/// Bytes of memory.
const MEMORY: usize = 16 << 20;
const RX_RINGS: u64 = 0x1_0000;
const TX_RINGS: u64 = 0x2_0000;
const RX_BUFFERS: u64 = 0x10_0000;
const TX_BUFFERS: u64 = 0x80_0000;

/// Bytes of one receive buffer, header included; a little less than a page, as with Linux.
pub(crate) const RX_BUFFER: u32 = 3776;

/// Bytes of one transmit slot.
const TX_SLOT: u64 = 0x2_0000;

/// A guest with one driver.
pub(crate) struct Guest {
    pub(crate) memory: Arc<GuestMemoryMmap>,
    pub(crate) rx: DriverQueue,
    pub(crate) tx: DriverQueue,
    pub(crate) cid: u32,
    /// Receive buffers are posted again as soon as they have been read.
    pub(crate) reposts: bool,
    received: VecDeque<Packet>,
    /// Bytes received on each (guest port, host port), for credit.
    taken: std::collections::HashMap<(u32, u32), u32>,
    pub(crate) window: u32,
}

/// What arrived from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    pub(crate) fn op(&self) -> Option<Op> {
        Op::from_wire(self.header.op)
    }
}

impl Guest {
    pub(crate) fn new(notifications: Notifications) -> Self {
        Self::with_queues(notifications, 128)
    }

    pub(crate) fn with_queues(notifications: Notifications, entries: u16) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory");
        let memory = Arc::new(memory);
        let queue = |at| DriverQueue::new(Arc::clone(&memory), at, entries, notifications);
        Self {
            rx: queue(RX_RINGS),
            tx: queue(TX_RINGS),
            memory,
            cid: CID,
            reposts: true,
            received: VecDeque::new(),
            taken: Default::default(),
            window: 256 << 10,
        }
    }

    /// What the device needs of it.
    pub(crate) fn attachment(&self, driver: Driver) -> Attachment {
        let at = match driver {
            Driver::Fresh => Positions { rx: 0, tx: 0 },
            Driver::Resumed => panic!("a resumed driver has positions"),
        };
        self.attachment_at(driver, at)
    }

    pub(crate) fn attachment_at(&self, driver: Driver, at: Positions) -> Attachment {
        Attachment {
            guest_cid: self.cid,
            memory: Arc::clone(&self.memory),
            rx: self.rx.vring(at.rx),
            tx: self.tx.vring(at.tx),
            driver,
        }
    }

    /// Attached to a device, its receive queue full of buffers.
    pub(crate) fn attached(notifications: Notifications) -> (Self, Handle) {
        let mut guest = Self::new(notifications);
        let device = Handle::start().expect("a device");
        guest.post_all();
        device.attach(guest.attachment(Driver::Fresh)).expect("a good attachment");
        (guest, device)
    }

    /// Posts as many receive buffers as the queue takes.
    pub(crate) fn post_all(&mut self) {
        for slot in 0..u64::from(self.rx.entries() / 2) {
            let at = RX_BUFFERS + slot * 0x1000;
            self.rx.add(&[
                Part { at, len: HEADER_LEN, writable: true },
                Part {
                    at: at + u64::from(HEADER_LEN),
                    len: RX_BUFFER - HEADER_LEN,
                    writable: true,
                },
            ]);
        }
        self.rx.kick_if_wanted();
    }

    /// A header from this guest.
    pub(crate) fn header(&self, guest_port: u32, host_port: u32, op: Op) -> Header {
        Header {
            src_cid: u64::from(self.cid),
            dst_cid: HOST_CID,
            src_port: guest_port,
            dst_port: host_port,
            kind: TYPE_STREAM,
            op: op.to_wire(),
            buf_alloc: self.window,
            fwd_cnt: self.taken.get(&(guest_port, host_port)).copied().unwrap_or(0),
            ..Header::default()
        }
    }

    /// Sends a packet without payload.
    pub(crate) fn send(&mut self, guest_port: u32, host_port: u32, op: Op) {
        self.send_packet(self.header(guest_port, host_port, op), &[]);
    }

    /// Sends bytes.
    pub(crate) fn send_bytes(&mut self, guest_port: u32, host_port: u32, bytes: &[u8]) {
        let header = self.header(guest_port, host_port, Op::ReadWrite);
        self.send_packet(
            Header { len: u32::try_from(bytes.len()).expect("short"), ..header },
            bytes,
        );
    }

    /// Sends a packet as it is, right or wrong.
    pub(crate) fn send_packet(&mut self, header: Header, payload: &[u8]) {
        let until = Instant::now() + GENEROUS;
        while self.tx.free() < 2 {
            assert!(Instant::now() < until, "the device gives no transmit buffers back");
            self.tx.wait_for_interrupt(Duration::from_millis(10));
            self.tx.take_used();
        }
        let at = TX_BUFFERS + u64::from(self.tx.next_head() / 2) * TX_SLOT;
        self.memory.write_slice(&header.to_bytes(), GuestAddress(at)).expect("in memory");
        let body = at + u64::from(HEADER_LEN);
        self.memory.write_slice(payload, GuestAddress(body)).expect("in memory");
        let len = u32::try_from(payload.len()).expect("short");
        self.tx.add(&[
            Part { at, len: HEADER_LEN, writable: false },
            Part { at: body, len, writable: false },
        ]);
        self.tx.kick_if_wanted();
    }

    /// The next packet from the host.
    pub(crate) fn receive(&mut self) -> Packet {
        self.receive_within(GENEROUS).expect("a packet from the host")
    }

    /// The next packet that is no credit update.
    pub(crate) fn receive_essential(&mut self) -> Packet {
        loop {
            let packet = self.receive();
            if packet.op() != Some(Op::CreditUpdate) {
                return packet;
            }
        }
    }

    /// The next packet, if there is one in time.
    pub(crate) fn receive_within(&mut self, patience: Duration) -> Option<Packet> {
        let until = Instant::now() + patience;
        loop {
            self.collect();
            if let Some(packet) = self.received.pop_front() {
                return Some(packet);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.rx.wait_for_interrupt(left);
        }
    }

    /// Takes what the device has given back.
    fn collect(&mut self) {
        for used in self.rx.take_used() {
            let mut bytes = vec![0; usize::try_from(used.len).expect("short")];
            self.memory.read_slice(&mut bytes, GuestAddress(used.at)).expect("in memory");
            if self.reposts {
                self.rx.add(&used.parts);
            }
            let Some((header, payload)) = bytes.split_first_chunk() else { continue };
            let header = Header::from_bytes(header);
            let key = (header.dst_port, header.src_port);
            let taken = self.taken.entry(key).or_default();
            *taken = taken.wrapping_add(header.len);
            assert_eq!(header.src_cid, HOST_CID);
            assert_eq!(header.dst_cid, u64::from(self.cid));
            assert_eq!(header.len as usize, payload.len());
            self.received.push_back(Packet { header, payload: payload.to_vec() });
        }
        if self.reposts {
            self.rx.kick_if_wanted();
        }
    }

    /// Answers the host's request for `guest_port`; returns the host's port.
    pub(crate) fn accept(&mut self, guest_port: u32) -> u32 {
        let request = self.receive();
        assert_eq!(request.op(), Some(Op::Request));
        assert_eq!(request.header.dst_port, guest_port);
        self.send(guest_port, request.header.src_port, Op::Response);
        request.header.src_port
    }

    /// Receives `bytes` bytes of one connection, and tells the host of room as Linux does.
    pub(crate) fn receive_bytes(
        &mut self,
        guest_port: u32,
        host_port: u32,
        bytes: usize,
    ) -> Vec<u8> {
        let mut all = Vec::new();
        let mut told = self.taken.get(&(guest_port, host_port)).copied().unwrap_or(0);
        while all.len() < bytes {
            let packet = self.receive_essential();
            assert_eq!(packet.op(), Some(Op::ReadWrite), "{:?}", packet.header);
            assert_eq!(packet.header.dst_port, guest_port);
            all.extend_from_slice(&packet.payload);
            let taken = self.header(guest_port, host_port, Op::CreditUpdate).fwd_cnt;
            if taken.wrapping_sub(told) > self.window * 3 / 4 {
                self.send(guest_port, host_port, Op::CreditUpdate);
                told = taken;
            }
        }
        all
    }
}

/// Waits until `fd` is readable.
pub(crate) fn wait_readable(fd: &OwnedFd, patience: Duration) {
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(patience.as_secs()).expect("short"),
        tv_nsec: patience.subsec_nanos().into(),
    };
    let mut fds =
        [rustix::event::PollFd::from_borrowed_fd(fd.as_fd(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timeout)).expect("poll");
}
