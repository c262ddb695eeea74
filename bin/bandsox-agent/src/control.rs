//! Telling the host that the guest is up.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bandsox_proto::v2::{Hello, Reply};
use rustix::time::{ClockId, clock_gettime};

use crate::agent::Agent;
use crate::channel::Connection;
use crate::server;

/// Says Hello on a control connection, then does what the host asks on it, on a thread of its own. There is no
/// preamble: Hello says which versions there are.
pub(crate) fn greet(agent: &Arc<Agent>, stream: File, hello: Hello) -> io::Result<()> {
    let admission = agent.admit().ok_or(io::ErrorKind::ResourceBusy)?;
    let connection = Connection::new(stream, admission);
    connection.send(&Reply::Hello(hello))?;
    let agent = Arc::clone(agent);
    let thread = std::thread::Builder::new().name("control".to_owned()).stack_size(256 * 1024);
    thread.spawn(move || server::serve(&agent, connection))?;
    Ok(())
}

/// What the agent says of itself.
pub(crate) fn hello(transports: &[&str], port: u32) -> Hello {
    let since_boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since_boot.tv_sec).unwrap_or(0);
    let millis = u64::try_from(since_boot.tv_nsec / 1_000_000).unwrap_or(0);
    Hello {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: (1, 2),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        transports: transports.iter().map(|&name| name.to_owned()).collect(),
        boot_ms: seconds.saturating_mul(1000).saturating_add(millis),
        port,
    }
}
