//! The other end of a channel, in a thread of the test.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use bandsox_client::Channel;
use bandsox_proto::control::Transport;
use bandsox_proto::v2::{FrameReader, Reply, Request, preamble};

/// A channel, and what happens at its other end.
pub(crate) fn channel_to<T: Send + 'static>(
    agent: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> (Channel, JoinHandle<T>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let peer = thread::spawn(move || agent(theirs));
    (Channel::new(ours, Transport::Vsock), peer)
}

/// The agent's half of protocol v2, under the test's control.
pub(crate) struct Agent {
    frames: FrameReader<UnixStream>,
    socket: UnixStream,
}

impl Agent {
    /// Answers the client's greeting.
    pub(crate) fn greet(mut socket: UnixStream) -> Self {
        preamble::receive_client(&mut socket).expect("the client says hello");
        socket.write_all(&preamble::AGENT).expect("the client listens");
        Self { frames: FrameReader::new(socket.try_clone().expect("a descriptor")), socket }
    }

    /// The client's next message; `None` at its end.
    pub(crate) fn hear(&mut self) -> Option<Request> {
        let frame = self.frames.read().ok().flatten()?;
        Some(Request::decode(frame.kind, frame.payload).expect("the client's messages make sense"))
    }

    /// Says something; a client that has gone is no failure.
    pub(crate) fn say(&mut self, reply: &Reply) {
        self.raw(&reply.to_frame().expect("fits into a frame"));
    }

    /// Sends bytes that need not be a message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).ok();
    }

    /// Waits until the client has gone.
    pub(crate) fn wait_for_end(&mut self) {
        std::io::copy(self.frames.raw(), &mut std::io::sink()).ok();
    }
}
