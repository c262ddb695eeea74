//! The barest program that moves bytes over vsock, for the guest's side of tests and benchmarks.
//!
//! ```text
//! vsock-peer listen PORT receive [FILE]   each connection: read to its end into FILE (or nowhere), answer the count
//! vsock-peer listen PORT send FILE|BYTES  each connection: send the file, or so many zeros, and close
//! vsock-peer listen PORT echo             each connection: send back what comes
//! vsock-peer connect PORT TEXT            to the host: send TEXT, close that half, print the answer
//! ```
//!
//! `receive` answers with eight bytes, the count in little-endian order, once the last write has returned. Nothing is
//! synced to disk.
// UNSAFETY: rustix has no vsock address, so this program spells `sockaddr_vm` out.
#![expect(unsafe_code, reason = "see the UNSAFETY note above")]

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Large enough that the system call does not show.
const BUFFER_BYTES: usize = 1 << 18;
const CID_ANY: u32 = u32::MAX;
const CID_HOST: u32 = 2;

/// `struct sockaddr_vm`. Source: `include/uapi/linux/vm_sockets.h`.
#[repr(C)]
struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags_and_zero: [u8; 4],
}

const _: () = assert!(size_of::<VsockAddress>() == 16);

impl VsockAddress {
    fn new(cid: u32, port: u32) -> Self {
        let family = AddressFamily::VSOCK.as_raw();
        Self { family, reserved: 0, port, cid, flags_and_zero: [0; 4] }
    }
}

// SAFETY: the pointer is to `self`, which outlives the call and is exactly as long as is said; its layout is the
// kernel's, by the assertion above.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f(std::ptr::from_ref(self).cast(), 16)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    match *words {
        ["listen", port, "receive"] => serve(port, |stream| receive(stream, &mut io::sink())),
        ["listen", port, "receive", file] => {
            serve(port, |stream| receive(stream, &mut File::create(file)?))
        }
        ["listen", port, "send", what] => serve(port, |stream| send(stream, what)),
        ["listen", port, "echo"] => serve(port, |mut stream| {
            let mut out = stream.try_clone()?;
            copy(&mut stream, &mut out).map(drop)
        }),
        ["connect", port, text] => connect(port, text),
        _ => Err(io::Error::other(
            "usage: vsock-peer listen PORT receive|send|echo … | connect PORT TEXT",
        )),
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?)
}

fn serve(port: &str, each: impl Fn(UnixStream) -> io::Result<()>) -> io::Result<()> {
    let listener = socket()?;
    rustix::net::bind(&listener, &VsockAddress::new(CID_ANY, number(port)?))?;
    rustix::net::listen(&listener, 16)?;
    // Whoever started us waits for this line before it connects.
    writeln!(io::stdout(), "listening")?;
    loop {
        // A stream socket is a stream socket: the standard library's methods do for vsock what they do for unix ones.
        let stream = UnixStream::from(rustix::net::accept(&listener)?);
        if let Err(error) = each(stream) {
            complain(&error);
        }
    }
}

fn receive(mut stream: UnixStream, into: &mut dyn Write) -> io::Result<()> {
    let count = copy(&mut stream, into)?;
    stream.write_all(&count.to_le_bytes())
}

fn send(mut stream: UnixStream, what: &str) -> io::Result<()> {
    match what.parse::<u64>() {
        Ok(zeros) => copy(&mut io::repeat(0).take(zeros), &mut stream)?,
        Err(_) => copy(&mut File::open(what)?, &mut stream)?,
    };
    Ok(())
}

fn connect(port: &str, text: &str) -> io::Result<()> {
    let socket = socket()?;
    rustix::net::connect(&socket, &VsockAddress::new(CID_HOST, number(port)?))?;
    let mut stream = UnixStream::from(socket);
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    copy(&mut stream, &mut io::stdout()).map(drop)
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        to.write_all(buffer.get(..count).unwrap_or_default())?;
        total += count as u64;
    }
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(|_| io::Error::other(format!("{text} is not a port")))
}

#[expect(clippy::print_stderr, reason = "this is a terminal program's report")]
fn complain(error: &io::Error) {
    eprintln!("vsock-peer: {error}");
}
