//! Descriptor chains to packets. All that a hostile guest can put into a ring is refused here.

use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use crate::header::Header;
use crate::span::{OutsideMemory, Span, Spans};
use crate::spec::HEADER_LEN;

/// Descriptors that one packet may be spread over. Linux uses two.
const MOST_DESCRIPTORS: usize = 64;

/// A buffer that the guest has posted for one packet from us.
#[derive(Debug)]
pub(crate) struct RxBuffer {
    /// Descriptor index to give back.
    pub(crate) head: u16,
    /// Where the header goes: 44 bytes.
    pub(crate) header: Spans,
    /// Where payload goes: possibly none.
    pub(crate) payload: Spans,
}

/// A packet that the guest has sent, its payload still in guest memory.
#[derive(Debug)]
pub(crate) struct TxPacket {
    pub(crate) header: Header,
    /// As many bytes as the header says.
    pub(crate) payload: Spans,
}

/// Why a chain is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadChain {
    #[error("a packet has more than {MOST_DESCRIPTORS} descriptors")]
    TooManyDescriptors,
    #[error("a packet has {bytes} bytes; its header alone takes {HEADER_LEN}")]
    NoRoomForHeader { bytes: u32 },
    #[error("a header promises {promised} bytes of payload, its descriptors have {present}")]
    PayloadCutShort { promised: u32, present: u32 },
    #[error(transparent)]
    OutsideMemory(#[from] OutsideMemory),
}

type Chain<'m> = DescriptorChain<&'m GuestMemoryMmap>;

/// Reads a chain of the receive queue.
pub(crate) fn rx_buffer(chain: Chain<'_>, memory: &GuestMemoryMmap) -> Result<RxBuffer, BadChain> {
    let head = chain.head_index();
    let (header, payload) = split(collect(chain, memory, Direction::ToGuest)?)?;
    Ok(RxBuffer { head, header, payload })
}

/// Reads a chain of the transmit queue.
pub(crate) fn tx_packet(chain: Chain<'_>, memory: &GuestMemoryMmap) -> Result<TxPacket, BadChain> {
    let (front, rest) = split(collect(chain, memory, Direction::FromGuest)?)?;
    let mut bytes = [0; HEADER_LEN as usize];
    front.read(memory, &mut bytes)?;
    let header = Header::from_bytes(&bytes);
    if header.len > rest.bytes() {
        return Err(BadChain::PayloadCutShort { promised: header.len, present: rest.bytes() });
    }
    let payload = if header.len == rest.bytes() { rest } else { rest.split(header.len).0 };
    Ok(TxPacket { header, payload })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToGuest,
    FromGuest,
}

fn collect(
    chain: Chain<'_>,
    memory: &GuestMemoryMmap,
    direction: Direction,
) -> Result<Spans, BadChain> {
    let mut spans = Spans::default();
    for (seen, descriptor) in chain.enumerate() {
        if seen == MOST_DESCRIPTORS {
            return Err(BadChain::TooManyDescriptors);
        }
        if descriptor.is_write_only() == (direction == Direction::ToGuest) {
            spans.push(Span { addr: descriptor.addr(), len: descriptor.len() })?;
        }
    }
    if spans.lies_in(memory) { Ok(spans) } else { Err(OutsideMemory.into()) }
}

fn split(spans: Spans) -> Result<(Spans, Spans), BadChain> {
    if spans.bytes() < HEADER_LEN {
        return Err(BadChain::NoRoomForHeader { bytes: spans.bytes() });
    }
    Ok(spans.split(HEADER_LEN))
}
