//! What the device needs of a virtual machine to run on it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// One virtqueue with its notifications.
#[derive(Debug)]
pub struct Vring {
    /// Addresses (guest-physical), size and positions; ready.
    pub queue: Queue,
    /// Eventfd that the guest's kicks arrive on. Without one the queue is only looked at when
    /// something else happens.
    pub kick: Option<OwnedFd>,
    /// Eventfd that interrupts the guest. Without one the guest is expected to poll.
    pub call: Option<OwnedFd>,
}

/// A guest's side of the device, from the moment that its driver has set the queues up.
#[derive(Debug)]
pub struct Attachment {
    /// The guest's address, 3 or above.
    pub guest_cid: u32,
    /// The guest's memory.
    pub memory: Arc<GuestMemoryMmap>,
    /// Receive queue (number 0): packets for the guest.
    pub rx: Vring,
    /// Transmit queue (number 1): packets from the guest.
    pub tx: Vring,
    /// Whether the same driver goes on where it stopped, or has forgotten every connection.
    pub driver: Driver,
}

/// What became of the guest's driver between two attachments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// It starts from nothing: connections of an earlier attachment are over.
    Fresh,
    /// The machine was only paused: connections go on.
    Resumed,
}

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Receive queue, number 0.
    Rx,
    /// Transmit queue, number 1.
    Tx,
}

/// Where the device stopped in both available rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Next entry of the receive queue.
    pub rx: u16,
    /// Next entry of the transmit queue.
    pub tx: u16,
}

/// Why a guest's side could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// A queue is not ready, or its rings lie outside guest memory.
    #[error("the guest's {queue:?} queue does not lie in its memory")]
    Queue {
        /// Which queue.
        queue: QueueKind,
    },
    /// The address is one that no guest can have.
    #[error("guest CID {cid} is reserved; want 3 or above, and not 4294967295")]
    Cid {
        /// The address.
        cid: u32,
    },
    /// A kick descriptor cannot be waited for.
    #[error("the guest's {queue:?} kicks cannot be waited for")]
    Kick {
        /// Which queue.
        queue: QueueKind,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The device's thread has ended.
    #[error("the vsock device has been shut down")]
    Closed,
}

impl Attachment {
    /// Checks what does not need the device.
    pub(crate) fn check(&self) -> Result<(), AttachError> {
        if self.guest_cid < 3 || self.guest_cid == u32::MAX {
            return Err(AttachError::Cid { cid: self.guest_cid });
        }
        for (queue, vring) in [(QueueKind::Rx, &self.rx), (QueueKind::Tx, &self.tx)] {
            if !vring.queue.is_valid(&*self.memory) {
                return Err(AttachError::Queue { queue });
            }
        }
        Ok(())
    }
}
