//! Packets of JSON and descriptors over a unix socket of type `SEQPACKET`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest packet. The kernel's default buffer takes about 200 KiB.
const MAX_BYTES: usize = 128 << 10;

/// Most descriptors in one packet.
const MAX_FDS: usize = 32;

/// Two connected sockets, neither inherited by accident.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_BYTES || fds.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet; `None` when the peer is gone or has stopped sending.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0_u8; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let packet = bytes.get(..received.bytes).unwrap_or_default();
    Ok(Some((serde_json::from_slice(packet)?, fds)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_packet_arrives_whole_with_its_descriptors() {
        let (here, there) = pair().expect("a socket pair");
        let (reader, writer) = io::pipe().expect("a pipe");

        send(&here, &vec!["a", "b"], &[reader.as_fd()]).expect("the peer is there");
        let (words, mut fds): (Vec<String>, _) =
            receive(&there).expect("a packet").expect("the peer is there");
        drop(writer);

        assert_eq!(words, ["a", "b"]);
        let mut rest = Vec::new();
        File::from(fds.remove(0)).read_to_end(&mut rest).expect("it is the pipe");
        assert!(rest.is_empty());
    }

    #[test]
    fn the_end_of_the_peer_is_no_packet() {
        let (here, there) = pair().expect("a socket pair");
        drop(here);

        let nothing = receive::<Vec<String>>(&there).expect("an orderly end");

        assert!(nothing.is_none());
    }
}
