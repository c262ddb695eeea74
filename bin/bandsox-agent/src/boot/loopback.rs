//! The interface `lo`.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// `RTM_NEWLINK`: change an interface. Source: linux/rtnetlink.h.
const NEWLINK: u16 = 16;

/// `NLM_F_REQUEST | NLM_F_ACK`. Source: linux/netlink.h.
const REQUEST_AND_ACK: u16 = 1 | 4;

/// `NLMSG_ERROR`, which with the number 0 is the acknowledgement.
const ERROR: u16 = 2;

/// `IFF_UP`. Source: linux/if.h.
const UP: u32 = 1;

/// The first interface of every network namespace is its loopback.
const LOOPBACK_INDEX: i32 = 1;

/// Brings the loopback interface up; the kernel then gives it its addresses.
pub(super) fn bring_up() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    let message = message();
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 64];
    let (_, count) = recv(&socket, &mut answer, RecvFlags::empty())?;
    match answer.get(..count) {
        // Header of 16 bytes, its type at 4; then a negative errno.
        Some(&[_, _, _, _, t, u, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..])
            if u16::from_ne_bytes([t, u]) == ERROR =>
        {
            match i32::from_ne_bytes([a, b, c, d]) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
            }
        }
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// `struct nlmsghdr`, then `struct ifinfomsg`.
fn message() -> Vec<u8> {
    let length = 32_u32;
    let (sequence, port) = (1_u32, 0_u32);
    let (family, padding, device_type) = (0_u8, 0_u8, 0_u16);
    let (flags, change) = (UP, UP);
    let mut message = Vec::new();
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&port.to_ne_bytes());
    message.extend_from_slice(&[family, padding]);
    message.extend_from_slice(&device_type.to_ne_bytes());
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&change.to_ne_bytes());
    message
}
