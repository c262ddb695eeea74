//! Numbers of the virtio socket device.
//!
//! Source: VIRTIO 1.2, section 5.10 (socket device) and 2.7 (split virtqueues).

/// Bytes of the header that starts every packet (section 5.10.6).
pub const HEADER_LEN: u32 = 44;

/// Address of the host, whatever the guest's own is (section 5.10.4).
pub const HOST_CID: u64 = 2;

/// Queue in which the device puts packets for the guest.
pub const RX_QUEUE: usize = 0;

/// Queue in which the guest puts packets for the device.
pub const TX_QUEUE: usize = 1;

/// Bits of `flags` in a shutdown packet (section 5.10.6.5).
pub mod shutdown {
    /// The sender of the packet will receive no more.
    pub const RECEIVE: u32 = 1;
    /// The sender of the packet will send no more.
    pub const SEND: u32 = 2;
    /// Both.
    pub const BOTH: u32 = RECEIVE | SEND;
}

/// Value of `type` for a stream socket; the only one that this device serves.
pub const TYPE_STREAM: u16 = 1;

/// What a packet asks for (section 5.10.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opens a connection.
    Request,
    /// Accepts one.
    Response,
    /// Refuses or breaks one.
    Reset,
    /// Says that one direction, or both, are over.
    Shutdown,
    /// Carries bytes.
    ReadWrite,
    /// Tells how much room there is, without being asked.
    CreditUpdate,
    /// Asks how much room there is.
    CreditRequest,
}

impl Op {
    /// The operation that a header's number stands for.
    #[must_use]
    pub fn from_wire(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::ReadWrite,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    /// The number that stands for it in a header.
    #[must_use]
    pub fn to_wire(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::ReadWrite => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}
