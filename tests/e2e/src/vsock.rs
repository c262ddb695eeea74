//! Firecracker's way to a vsock port of the guest, as any of its tools would go it.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, Result, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::deadline::GENEROUS;

/// Connects to `port` of the guest behind `vsock.sock` in `sockets`, by `CONNECT <port>\n`.
///
/// # Errors
///
/// When the socket is not there, or the answer is not `OK <port>\n`.
pub fn connect(sockets: &Path, port: u32) -> Result<UnixStream> {
    // The path may be longer than an address; the directory's descriptor is not.
    let dir = File::open(sockets)?;
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/vsock.sock", dir.as_raw_fd()))?;
    stream.set_read_timeout(Some(GENEROUS))?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    // One byte at a time: what follows the line belongs to the caller.
    let mut line = String::new();
    BufReader::with_capacity(1, &stream).read_line(&mut line)?;
    let host_port = line.strip_prefix("OK ").and_then(|rest| rest.strip_suffix('\n'));
    match host_port.map(str::parse::<u32>) {
        Some(Ok(_)) => Ok(stream),
        Some(Err(_)) | None => Err(Error::other(format!("port {port} answered {line:?}"))),
    }
}
