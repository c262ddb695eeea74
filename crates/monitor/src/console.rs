//! The guest's console: what it prints goes into a log of bounded size.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

/// Copies `console` into `log` until the engine closes it. What the disk does not take is lost, and said once.
pub(crate) fn pump(
    mut console: UnixStream,
    mut log: impl Write + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("console".to_owned()).stack_size(128 * 1024);
    thread.spawn(move || {
        let mut buffer = [0_u8; 16 * 1024];
        let mut failing = false;
        loop {
            let got = match console.read(&mut buffer) {
                Ok(0) => return,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return tracing::warn!(%error, "the guest's console is lost"),
            };
            match log.write_all(buffer.get(..got).unwrap_or_default()) {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "the guest's console cannot be written to its log");
                }
                Err(_) => {}
            }
        }
    })
}
