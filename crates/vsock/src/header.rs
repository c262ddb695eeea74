//! The header of a packet, to bytes and from them.

use crate::spec::{HEADER_LEN, HOST_CID, Op, TYPE_STREAM};

/// One packet's header, as it is on the wire: every field untrusted until checked.
///
/// Source: VIRTIO 1.2, section 5.10.6, `struct virtio_vsock_hdr`; all fields little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Sender's address.
    pub src_cid: u64,
    /// Receiver's address.
    pub dst_cid: u64,
    /// Sender's port.
    pub src_port: u32,
    /// Receiver's port.
    pub dst_port: u32,
    /// Bytes of payload behind the header.
    pub len: u32,
    /// Kind of socket; 1 is a stream.
    pub kind: u16,
    /// What is asked for; see [`Op`].
    pub op: u16,
    /// Meaning depends on `op`.
    pub flags: u32,
    /// Bytes of receive buffer that the sender keeps for this connection.
    pub buf_alloc: u32,
    /// Bytes that the sender has taken out of that buffer so far, modulo 2^32.
    pub fwd_cnt: u32,
}

/// A header's bytes.
pub(crate) type HeaderBytes = [u8; HEADER_LEN as usize];

impl Header {
    /// A header from the host to `guest_cid`, with nothing but addresses and an operation.
    #[must_use]
    pub(crate) fn to_guest(guest_cid: u64, host_port: u32, guest_port: u32, op: Op) -> Self {
        Self {
            src_cid: HOST_CID,
            dst_cid: guest_cid,
            src_port: host_port,
            dst_port: guest_port,
            kind: TYPE_STREAM,
            op: op.to_wire(),
            ..Self::default()
        }
    }

    /// Reads a header.
    #[must_use]
    pub fn from_bytes(bytes: &HeaderBytes) -> Self {
        let mut rest = bytes.as_slice();
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    /// Writes a header.
    #[must_use]
    pub fn to_bytes(&self) -> HeaderBytes {
        let Self { src_cid, dst_cid, src_port, dst_port, len, kind, op, flags, buf_alloc, fwd_cnt } =
            *self;
        let mut bytes = [0; HEADER_LEN as usize];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, src_cid.to_le_bytes());
        put(&mut rest, dst_cid.to_le_bytes());
        put(&mut rest, src_port.to_le_bytes());
        put(&mut rest, dst_port.to_le_bytes());
        put(&mut rest, len.to_le_bytes());
        put(&mut rest, kind.to_le_bytes());
        put(&mut rest, op.to_le_bytes());
        put(&mut rest, flags.to_le_bytes());
        put(&mut rest, buf_alloc.to_le_bytes());
        put(&mut rest, fwd_cnt.to_le_bytes());
        bytes
    }
}

/// Takes the first `N` bytes; zeros if there are fewer, which the fixed layout rules out.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk::<N>() {
        Some((head, tail)) => {
            *rest = tail;
            *head
        }
        None => [0; N],
    }
}

/// Puts `N` bytes in front of what is left.
fn put<const N: usize>(rest: &mut &mut [u8], value: [u8; N]) {
    if let Some((head, tail)) = std::mem::take(rest).split_first_chunk_mut::<N>() {
        *head = value;
        *rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_sequence_of_44_bytes_reads_and_writes_back_unchanged(
            bytes in proptest::collection::vec(any::<u8>(), 44),
        ) {
            let bytes: HeaderBytes = bytes.try_into().expect("44 bytes were asked for");

            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }
    }

    #[test]
    fn fields_are_where_the_specification_puts_them() {
        let header =
            Header { src_cid: 1, len: 0x0102_0304, op: 5, fwd_cnt: 9, ..Header::default() };

        let bytes = header.to_bytes();

        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[24..28], [4, 3, 2, 1]);
        assert_eq!(bytes[30..32], [5, 0]);
        assert_eq!(bytes[40..44], [9, 0, 0, 0]);
    }
}
