//! The client's side of a monitor's control socket.

mod connect;
mod request;

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use bandsox_proto::ByteString;
use bandsox_proto::control::{
    Fetched, Nothing, Op, Opened, PathB64, Status, Stored, TransferEvent, Transport,
};

pub use connect::ConnectError;
pub use request::RequestError;

use crate::cancel::Cancel;
use crate::channel::Channel;
use crate::packet::PacketSocket;

/// A connection to the monitor of one VM.
///
/// Requests are made one after the other; a second connection serves a second thread.
#[derive(Debug)]
pub struct Monitor {
    socket: PacketSocket,
    vm: String,
    version: String,
    last_id: u64,
}

/// A regular file for [`Monitor::put_file`].
#[derive(Clone, Debug)]
pub struct PutFile<'a> {
    /// The file, open for reading; its bytes are taken from offset 0.
    pub file: &'a File,
    /// Its length in bytes.
    pub size: u64,
    /// Where it goes in the guest.
    pub path: ByteString,
    /// The name that it gets, should `path` be a directory or end in `/`.
    pub name: Option<ByteString>,
    /// Permission bits.
    pub mode: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The only transport to use, if it matters.
    pub transport: Option<Transport>,
}

impl Monitor {
    /// The id of the VM that it serves, by its own word.
    #[must_use]
    pub fn vm(&self) -> &str {
        &self.vm
    }

    /// The version of the monitor's program.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Ends every wait on this connection when `cancel` is requested.
    ///
    /// # Errors
    ///
    /// As [`Cancel::watch`].
    pub fn watched_by(&self, cancel: &Cancel) -> std::io::Result<crate::cancel::Watch> {
        cancel.watch(&self.socket)
    }

    /// What the VM is doing.
    ///
    /// # Errors
    ///
    /// [`RequestError`]
    pub fn status(&mut self) -> Result<Status, RequestError> {
        self.ask(Op::Status)
    }

    /// Stops the virtual CPUs where they are.
    ///
    /// # Errors
    ///
    /// [`RequestError`]
    pub fn pause(&mut self) -> Result<(), RequestError> {
        self.ask(Op::Pause).map(|Nothing {}| ())
    }

    /// Lets a paused VM run on.
    ///
    /// # Errors
    ///
    /// [`RequestError`]
    pub fn resume(&mut self) -> Result<(), RequestError> {
        self.ask(Op::Resume).map(|Nothing {}| ())
    }

    /// Asks the guest to power off, and kills it if it has not after `timeout_ms` milliseconds.
    /// Returns when it is off.
    ///
    /// # Errors
    ///
    /// [`RequestError`]
    pub fn stop(&mut self, timeout_ms: u64) -> Result<(), RequestError> {
        self.ask(Op::Stop { timeout_ms }).map(|Nothing {}| ())
    }

    /// Stops the VM at once; what the guest had not synced is lost.
    ///
    /// # Errors
    ///
    /// [`RequestError`]
    pub fn kill(&mut self) -> Result<(), RequestError> {
        self.ask(Op::Kill).map(|Nothing {}| ())
    }

    /// Opens a byte stream to the agent, over `transport` or over the best there is.
    ///
    /// # Errors
    ///
    /// [`RequestError`]
    pub fn open_channel(&mut self, transport: Option<Transport>) -> Result<Channel, RequestError> {
        let op = Op::OpenChannel { transport };
        let (opened, mut descriptors) = self.request::<Opened>(op, &[], &mut |_| ())?;
        let socket = descriptors.pop().ok_or(RequestError::NoDescriptor)?;
        Ok(Channel::new(UnixStream::from(socket), opened.transport))
    }

    /// Copies a regular file into the guest. `progress` is told how many bytes have gone.
    ///
    /// # Errors
    ///
    /// [`RequestError`]; the guest's file is then as it was.
    pub fn put_file(
        &mut self,
        put: PutFile<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Stored, RequestError> {
        let op = Op::PutFile {
            path_b64: PathB64(put.path),
            name_b64: put.name.map(PathB64),
            mode: put.mode,
            mtime_ns: put.mtime_ns,
            uid: None,
            gid: None,
            size: put.size,
            transport: put.transport,
        };
        Ok(self.request(op, &[put.file.as_fd()], progress)?.0)
    }

    /// Copies a regular file out of the guest into `file`, which is empty and open for writing.
    /// `progress` is told how many bytes have come.
    ///
    /// # Errors
    ///
    /// [`RequestError`]; what `file` holds then is worth nothing.
    pub fn get_file(
        &mut self,
        path: ByteString,
        file: BorrowedFd<'_>,
        transport: Option<Transport>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Fetched, RequestError> {
        let op = Op::GetFile { path_b64: PathB64(path), transport };
        Ok(self.request(op, &[file], progress)?.0)
    }

    /// Has the monitor log a transfer that went over a channel.
    ///
    /// # Errors
    ///
    /// [`RequestError`]
    pub fn note(
        &mut self,
        event: TransferEvent,
        transport: Transport,
        path: ByteString,
        bytes: u64,
    ) -> Result<(), RequestError> {
        let op = Op::Note { event, transport, path_b64: PathB64(path), bytes };
        self.ask(op).map(|Nothing {}| ())
    }
}
