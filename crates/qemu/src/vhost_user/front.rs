//! One QEMU's connection to the device.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bandsox_vsock::Handle;
use vhost::vhost_user::{BackendReqHandler, Error as VhostError};

use super::requests::Requests;

/// Serves a vsock device to one QEMU over one socket.
///
/// Dropping it hangs up: QEMU's device stops working, and the vsock device is without a guest
/// until another front attaches one to the same [`Handle`]. The end is waited for, so that this
/// front can no longer take away what its successor sets up.
#[derive(Debug)]
pub struct Front {
    socket: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What happens to a front, as its owner is told, on the front's own thread.
#[derive(Debug)]
#[non_exhaustive]
pub enum FrontEvent {
    /// The guest's driver has set the queues up: connections work from now on.
    Attached,
    /// The queues have stopped: the machine is paused, or the driver let go.
    Detached,
    /// QEMU hung up: it has ended, or the device was unplugged. Connections have been closed.
    /// The last event.
    HungUp,
    /// QEMU said something that makes no sense, and the front hung up. Connections have been
    /// closed. The last event.
    Failed(io::Error),
}

/// Where events go.
pub(super) type OnEvent = Box<dyn Fn(FrontEvent) + Send>;

impl Front {
    /// Starts serving on `socket`, the other end of which goes to QEMU.
    ///
    /// The guest finds `guest_cid` in the device's configuration. Connections that an earlier
    /// front of this device has left behind are closed when this front ends, or when the guest's
    /// driver starts.
    ///
    /// # Errors
    ///
    /// What the operating system said when it was asked for a thread and a descriptor.
    pub fn serve(
        socket: UnixStream,
        device: Handle,
        guest_cid: u32,
        on_event: impl Fn(FrontEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let (ours, hang_up) = (socket.try_clone()?, socket.try_clone()?);
        let requests = Requests::new(device, guest_cid, Box::new(on_event));
        let thread = thread::Builder::new()
            .name("vhost-user".to_owned())
            .spawn(move || run(socket, &hang_up, requests))?;
        Ok(Self { socket: ours, thread: Some(thread) })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Ends the thread's wait for QEMU's next word. QEMU may have hung up before.
        self.socket.shutdown(Shutdown::Both).ok();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the vhost-user front has panicked");
        }
    }
}

fn run(socket: UnixStream, hang_up: &UnixStream, requests: Requests) {
    // The crate's dispatcher wants shared ownership; only this thread ever takes the lock.
    let requests = Arc::new(Mutex::new(requests));
    let mut dispatcher = BackendReqHandler::from_stream(socket, Arc::clone(&requests));
    let end = loop {
        if let Err(error) = dispatcher.handle_request() {
            break error;
        }
    };
    // The front's owner has a duplicate, so that closing alone would not tell QEMU.
    hang_up.shutdown(Shutdown::Both).ok();
    let hung_up = matches!(
        end,
        VhostError::Disconnected | VhostError::PartialMessage | VhostError::SocketBroken(_)
    );
    let event =
        if hung_up { FrontEvent::HungUp } else { FrontEvent::Failed(io::Error::other(end)) };
    let mut requests = requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    requests.end(event);
}
