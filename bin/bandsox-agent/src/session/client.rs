//! The client of a running session.

use std::io::{self, Write};

use bandsox_proto::v2::{Exit, Reply, Request, Started};

use crate::channel::{Connection, RequestError};
use crate::session::log::Log;

/// Bytes waiting for a client above which no more is put there.
const OUTBOUND: usize = 128 * 1024;

/// A connection that does not block, and how far its client is.
pub(super) struct Client {
    connection: Connection,
    next_seq: u64,
    outbound: Vec<u8>,
    told: bool,
}

impl Client {
    /// Attaches a connection whose client has everything below `from_seq`.
    pub(super) fn new(connection: Connection, from_seq: u64, started: Started) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&*connection.stream, true)?;
        let mut client = Self { connection, next_seq: from_seq, outbound: Vec::new(), told: false };
        client.say(&Reply::Started(started));
        Ok(client)
    }

    pub(super) fn stream(&self) -> &std::fs::File {
        &self.connection.stream
    }

    pub(super) fn has_outbound(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// Whether it has been sent everything, and the exit.
    pub(super) fn is_served(&self) -> bool {
        self.told && self.outbound.is_empty()
    }

    /// Puts a message behind what waits already.
    pub(super) fn say(&mut self, reply: &Reply) {
        // What does not fit into a frame is a message of an error that nobody needs in full.
        reply.encode(&mut self.outbound).ok();
    }

    /// Puts output, then the exit, behind what waits already, and sends what the stream takes.
    pub(super) fn pump(&mut self, log: &Log, exit: Option<&Exit>) -> io::Result<()> {
        self.next_seq = self.next_seq.max(log.first_seq());
        loop {
            while self.outbound.len() < OUTBOUND && log.encode(self.next_seq, &mut self.outbound) {
                self.next_seq = self.next_seq.saturating_add(1);
            }
            if let (Some(exit), false) = (exit, self.told)
                && self.next_seq >= log.next_seq()
            {
                self.told = true;
                self.say(&Reply::Exit(exit.clone()));
            }
            if self.outbound.is_empty() || !self.flush()? {
                return Ok(());
            }
        }
    }

    /// Sends what the stream takes; `false` if it does not take all.
    fn flush(&mut self) -> io::Result<bool> {
        let mut sent = 0;
        let result = loop {
            let rest = self.outbound.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(true);
            }
            match (&*self.connection.stream).write(rest) {
                Ok(count) => sent = sent.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.outbound.drain(..sent);
        result
    }

    /// Reads what has come; `false` at the end of the stream.
    pub(super) fn fill(&mut self) -> bool {
        match self.connection.fill() {
            Ok(count) => count > 0,
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        }
    }

    /// The next request among what has come.
    pub(super) fn request(&mut self) -> Result<Option<Request>, RequestError> {
        self.connection.arrived_request()
    }

    /// Sends what can be sent at once, and goes.
    pub(super) fn dismiss(mut self, last: &Reply) {
        self.say(last);
        self.flush().ok();
    }

    /// Gives the connection back, for other requests.
    pub(super) fn release(mut self, session: bandsox_proto::v2::SessionId) -> Option<Connection> {
        rustix::io::ioctl_fionbio(&*self.connection.stream, false).ok()?;
        self.connection.last_session = Some(session);
        Some(self.connection)
    }
}
