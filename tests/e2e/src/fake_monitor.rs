//! A monitor without a VM, or before one: it hands out channels to whatever a test lets sit at their other end.
//!
//! It speaks the control socket's protocol as its document has it, and no more of it than a client needs to get a
//! channel. What a real agent never sends can be sent that way.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde_json::{Value, json};

use crate::vm::Vm;

/// Longest packet of the protocol, in bytes.
const PACKET_BYTES: usize = 64 * 1024;

/// What sits at the agent's end of each channel.
type Agent = Arc<dyn Fn(UnixStream) + Send + Sync>;

/// Serves a VM's control socket until the test ends.
#[derive(Debug)]
pub struct FakeMonitor;

impl FakeMonitor {
    /// Takes the place of the monitor of a VM that runs: clients get their channels from `agent`, who may bring them to
    /// the VM's own agent by way of [`connect`](crate::connect).
    ///
    /// # Panics
    ///
    /// When the VM has no monitor.
    pub fn take_over(vm: &Vm<'_>, agent: impl Fn(UnixStream) + Send + Sync + 'static) {
        let dir = vm.sockets();
        std::fs::rename(dir.join("control.sock"), dir.join("aside.sock")).expect("it runs");
        Self::serve(vm, agent);
    }

    /// Takes the place of the monitor of a VM that does not run.
    ///
    /// # Panics
    ///
    /// When its socket cannot be made.
    pub fn serve(vm: &Vm<'_>, agent: impl Fn(UnixStream) + Send + Sync + 'static) {
        let dir: PathBuf = vm.sockets();
        std::fs::create_dir_all(&dir).expect("the storage is ours");
        let handle = std::fs::File::open(&dir).expect("made a moment ago");
        let path = format!("/proc/self/fd/{}/control.sock", handle.as_raw_fd());
        let address = SocketAddrUnix::new(path).expect("short enough");
        let socket = packet_socket();
        rustix::net::bind(&socket, &address).expect("nobody else serves it");
        rustix::net::listen(&socket, 16).expect("a socket that was bound");
        let (id, agent) = (vm.id.clone(), Arc::new(agent) as Agent);
        thread::spawn(move || {
            while let Ok(client) = rustix::net::accept(&socket) {
                let (id, agent) = (id.clone(), Arc::clone(&agent));
                thread::spawn(move || converse(&client, &id, &agent));
            }
        });
    }
}

/// Connects to the control socket of a VM's monitor, and says nothing yet.
///
/// # Panics
///
/// When nobody listens there.
#[must_use]
pub fn call_monitor(vm: &Vm<'_>) -> OwnedFd {
    let handle = std::fs::File::open(vm.sockets()).expect("it runs");
    let path = format!("/proc/self/fd/{}/control.sock", handle.as_raw_fd());
    let socket = packet_socket();
    let address = SocketAddrUnix::new(path).expect("short enough");
    rustix::net::connect(&socket, &address).expect("the monitor listens");
    socket
}

fn packet_socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .expect("supported")
}

fn converse(client: &OwnedFd, vm: &str, agent: &Agent) {
    while let Some(request) = receive(client) {
        if request.get("hello").is_some() {
            let hello = json!({ "hello": { "version": 1, "monitor": "0.0.0", "vm": vm } });
            send(client, &hello, None);
            continue;
        }
        let id = request["id"].clone();
        match request["op"].as_str() {
            Some("open_channel") => {
                let (ours, theirs) = UnixStream::pair().expect("descriptors are left");
                let agent = Arc::clone(agent);
                thread::spawn(move || agent(ours));
                let opened = json!({ "id": id, "ok": { "transport": "vsock" } });
                send(client, &opened, Some(&theirs));
            }
            Some("status") => {
                let status = json!({ "phase": "running", "engine": "qemu", "uptime_ms": 1, "transport": "vsock" });
                send(client, &json!({ "id": id, "ok": status }), None);
            }
            // What a guest's directory is answered with: its client then asks for a channel.
            Some("get_file") => {
                let error = json!({ "code": "is_a_directory", "message": "is a directory" });
                send(client, &json!({ "id": id, "error": error }), None);
            }
            Some("note") => send(client, &json!({ "id": id, "ok": {} }), None),
            _ => {
                let error = json!({ "code": "unsupported", "message": "this monitor has no VM" });
                send(client, &json!({ "id": id, "error": error }), None);
            }
        }
    }
}

fn receive(socket: &OwnedFd) -> Option<Value> {
    let mut buffer = vec![0; PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let count = rustix::net::recvmsg(socket, &mut parts, &mut ancillary, flags).ok()?.bytes;
    serde_json::from_slice(buffer.get(..count)?).ok()
}

fn send(socket: &OwnedFd, message: &Value, descriptor: Option<&UnixStream>) {
    let bytes = message.to_string();
    let descriptors: Vec<_> = descriptor.iter().map(|stream| stream.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let parts = [IoSlice::new(bytes.as_bytes())];
    // A client that is gone needs no answer.
    rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL).ok();
}
