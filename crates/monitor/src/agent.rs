//! The control channel to the agent: its hello, and what the monitor tells it.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bandsox_proto::control::Transport;
use bandsox_proto::v2::{FrameReader, Hello, Reply, Request, Shutdown, ShutdownMode};

use crate::driver::Event;

/// The agent is there.
#[derive(Debug)]
pub(crate) struct Ready {
    /// What it said.
    pub(crate) hello: Hello,
    /// What it said it over.
    pub(crate) transport: Transport,
    /// The way to tell it something.
    pub(crate) control: Option<AgentControl>,
}

/// The sending half of a control channel.
#[derive(Debug)]
pub(crate) struct AgentControl {
    socket: UnixStream,
}

impl AgentControl {
    /// Asks the guest to end its processes and power off. `grace` is all the time there is.
    ///
    /// # Errors
    ///
    /// If the agent has gone, or does not read.
    pub(crate) fn power_off(&mut self, grace: Duration) -> io::Result<()> {
        // Processes that ignore SIGTERM get half of the time; syncing the disk needs the rest.
        let grace_ms = u64::try_from(grace.as_millis() / 2).unwrap_or(u64::MAX);
        let shutdown = Request::Shutdown(Shutdown { mode: ShutdownMode::PowerOff, grace_ms });
        let frame = shutdown.to_frame().map_err(io::Error::other)?;
        self.socket.set_write_timeout(Some(Duration::from_secs(5)))?;
        self.socket.write_all(&frame)
    }
}

/// Listens to a control channel on a thread of its own, from the agent's hello until the channel ends.
pub(crate) fn greet(socket: UnixStream, transport: Transport, driver: Sender<Event>) {
    let named = std::thread::Builder::new().name(format!("agent-{}", name(transport)));
    let spawned = named.stack_size(128 * 1024).spawn(move || listen(socket, transport, &driver));
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread for the agent's control channel");
    }
}

fn listen(socket: UnixStream, transport: Transport, driver: &Sender<Event>) {
    let writer = match socket.try_clone() {
        Ok(socket) => AgentControl { socket },
        Err(error) => return tracing::error!(%error, "control channel lost"),
    };
    let mut writer = Some(writer);
    let mut frames = FrameReader::new(socket);
    loop {
        let reply = match frames.read() {
            Ok(Some(frame)) => Reply::decode(frame.kind, frame.payload),
            Ok(None) => {
                return tracing::info!(over = name(transport), "agent closed its control channel");
            }
            Err(error) => return tracing::warn!(%error, "agent's control channel failed"),
        };
        match reply {
            Ok(Reply::Hello(hello)) if writer.is_some() => {
                let ready = Ready { hello, transport, control: writer.take() };
                if driver.send(Event::Ready(ready)).is_err() {
                    return;
                }
            }
            Ok(other) => tracing::debug!(kind = other.kind().name(), "agent says"),
            // A newer agent may know more; a broken one must not fill the log.
            Err(error) if writer.is_some() => {
                return tracing::warn!(%error, "agent's hello makes no sense");
            }
            Err(error) => tracing::debug!(%error, "agent sent what we do not know"),
        }
    }
}

/// How a transport is spelled.
pub(crate) fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Vsock => "vsock",
        Transport::Serial => "serial",
    }
}
