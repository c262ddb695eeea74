//! The serial line to the host: a virtio-serial port, or else the second UART.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bandsox_proto::chain;
use bandsox_proto::mux::{Arrival, Hangup, Link, Role};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::agent::Agent;
use crate::console::say;
use crate::{control, server};

/// Name of the port, as the host gives it to the device.
const PORT: &str = "org.bandsox.agent";

/// How long a virtio console may take to show its ports.
const APPEARS: Duration = Duration::from_secs(5);

/// Virtio's device id of a console, as sysfs spells it. Source: VIRTIO 1.2, section 5.
const CONSOLE_ID: &str = "0x0003";

/// Starts to drive the line; each stream of the host's is a connection. The line
/// lives as long as the link that is returned.
pub(crate) fn start(agent: &Arc<Agent>, port: u32) -> Option<Link> {
    let line = match open() {
        Ok(line) => line,
        Err(error) => {
            say(&format!("no serial line: {}", chain(&error)));
            return None;
        }
    };
    let mut epoch = [0; 4];
    // The kernel's pool need not be ready: two epochs in a row only have to differ.
    getrandom(&mut epoch, GetRandomFlags::INSECURE).ok();
    let shared = Arc::clone(agent);
    let started =
        Link::start(line, Role::Guest, Hangup::Waits, u32::from_ne_bytes(epoch), move |arrival| {
            match arrival {
                Arrival::Control(stream) => {
                    let transports: &[&str] =
                        if port == 0 { &["serial"] } else { &["vsock", "serial"] };
                    let hello = control::hello(transports, port);
                    if let Err(error) =
                        control::greet(&shared, File::from(OwnedFd::from(stream)), hello)
                    {
                        say(&format!("cannot say hello over serial: {}", chain(&error)));
                    }
                }
                Arrival::Stream(stream) => {
                    server::spawn(&shared, File::from(OwnedFd::from(stream)))
                }
            }
        });
    match started {
        Ok(link) => Some(link),
        Err(error) => {
            say(&format!("cannot drive the serial line: {}", chain(&error)));
            None
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if let Some(port) = virtio_port() {
        return Ok(rustix::fs::openat(CWD, port, flags, Mode::empty())?);
    }
    let uart = rustix::fs::openat(CWD, "/dev/ttyS1", flags, Mode::empty())?;
    let mut settings = tcgetattr(&uart)?;
    settings.make_raw();
    settings.set_speed(115_200)?;
    tcsetattr(&uart, OptionalActions::Now, &settings)?;
    Ok(uart)
}

/// The device node of our port, waiting for it if there is a virtio console at all.
fn virtio_port() -> Option<PathBuf> {
    let until = Instant::now() + APPEARS;
    loop {
        for port in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT {
                return Some(PathBuf::from("/dev").join(port.file_name()));
            }
        }
        let is_console = |device: fs::DirEntry| {
            fs::read_to_string(device.path().join("device"))
                .is_ok_and(|id| id.trim_end() == CONSOLE_ID)
        };
        let mut devices = fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten().flatten();
        if Instant::now() >= until || !devices.any(is_console) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
