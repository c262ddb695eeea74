//! `/init` of a test guest: loads the virtio and vsock modules and serves port 1000 of vsock.
//!
//! Built by `rustc` alone, static, so that it runs as the only program of an initramfs. A connection begins with a line
//! that says what happens to the rest:
//!
//! ```text
//! sink N [WINDOW]        reads N bytes, or to the end if N is 0; answers the count (8 bytes, little-endian)
//! check                  reads to the end, answers the count and a hash of the bytes
//! source N [WINDOW]      sends N bytes, the same 256 KiB over and over
//! pattern N              sends N bytes that differ everywhere
//! echo                   sends back what comes, to the end
//! gulp N MS              reads N bytes, sleeps, reads the rest, answers the count
//! dial PORT              connects to the host and echoes there; answers `refused` or `done`
//! interrupts | kicks     prints the guest's own counts
//! ```
//!
//! WINDOW is the socket's receive buffer in bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::thread;
use std::time::Duration;

const CHUNK: usize = 256 << 10;
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
];

unsafe extern "C" {
    fn mount(source: *const u8, target: *const u8, kind: *const u8, flags: u64, data: *const u8) -> i32;
    fn syscall(number: i64, ...) -> i64;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn bind(fd: i32, address: *const Address, len: u32) -> i32;
    fn connect(fd: i32, address: *const Address, len: u32) -> i32;
    fn listen(fd: i32, backlog: i32) -> i32;
    fn accept(fd: i32, address: *mut u8, len: *mut u32) -> i32;
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const u64, len: u32) -> i32;
}

/// `struct sockaddr_vm`.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: u32,
}

const AF_VSOCK: i32 = 40;

fn main() {
    for (kind, target) in [(c"proc", c"/proc"), (c"sysfs", c"/sys"), (c"devtmpfs", c"/dev")] {
        fs::create_dir_all(target.to_str().unwrap()).ok();
        let (kind, target) = (kind.as_ptr().cast(), target.as_ptr().cast());
        // SAFETY: all three are C strings that live for ever.
        unsafe { mount(kind, target, kind, 0, c"".as_ptr().cast()) };
    }
    for name in MODULES {
        load(name);
    }
    match serve() {
        Ok(()) => {}
        Err(error) => say(&format!("the test guest gives up: {error}")),
    }
    exit(1);
}

fn say(text: &str) {
    if let Ok(mut console) = File::create("/dev/console") {
        writeln!(console, "{text}").ok();
    }
}

fn load(name: &str) {
    let Some(file) = find(name) else { return say(&format!("no module {name}")) };
    // SAFETY: finit_module takes a descriptor, a C string and flags.
    let done = unsafe { syscall(313, file.as_raw_fd(), c"".as_ptr(), 0) };
    if done != 0 {
        say(&format!("module {name}: {}", io::Error::last_os_error()));
    }
}

fn find(name: &str) -> Option<File> {
    for version in fs::read_dir("/lib/modules").ok()?.flatten() {
        if let Ok(file) = File::open(version.path().join(format!("{name}.ko"))) {
            return Some(file);
        }
    }
    None
}

fn serve() -> io::Result<()> {
    let listener = vsock()?;
    let any = Address { family: 40, reserved: 0, port: 1000, cid: u32::MAX, zero: 0 };
    // SAFETY: the address is 16 bytes, as is said.
    check(unsafe { bind(listener.as_raw_fd(), &any, 16) })?;
    check(unsafe { listen(listener.as_raw_fd(), 128) })?;
    say("the test guest listens");
    loop {
        // SAFETY: the caller's address is not asked for.
        let fd = check(unsafe { accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()) })?;
        // SAFETY: accept has just made this descriptor.
        let stream = unsafe { UnixStream::from_raw_fd(fd) };
        thread::spawn(move || handle(stream));
    }
}

fn vsock() -> io::Result<UnixStream> {
    // SAFETY: socket takes numbers, and what it makes is owned here alone.
    Ok(unsafe { UnixStream::from_raw_fd(check(socket(AF_VSOCK, 1, 0))?) })
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn handle(mut stream: UnixStream) -> Option<()> {
    let line = read_line(&mut stream)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    match *words.first()? {
        "sink" => {
            widen(&stream, number(2));
            let most = number(1).filter(|bytes| *bytes > 0).unwrap_or(u64::MAX);
            let count = drain(&mut stream, most, |_| ()).ok()?;
            stream.write_all(&count.to_le_bytes()).ok()
        }
        "check" => {
            let mut hash = Hash::default();
            let count = drain(&mut stream, u64::MAX, |bytes| hash.update(bytes)).ok()?;
            stream.write_all(&count.to_le_bytes()).ok()?;
            stream.write_all(&hash.0.to_le_bytes()).ok()
        }
        "source" => {
            widen(&stream, number(2));
            let chunk: Vec<u8> = (0..CHUNK).map(|at| (at % 251) as u8).collect();
            send(&mut stream, number(1)?, |buffer, _| buffer.copy_from_slice(&chunk[..buffer.len()]), true)
        }
        "pattern" => send(&mut stream, number(1)?, fill, false),
        "echo" => echo(&mut stream),
        "gulp" => {
            let mut first = vec![0; number(1)? as usize];
            stream.read_exact(&mut first).ok()?;
            thread::sleep(Duration::from_millis(number(2)?));
            let rest = drain(&mut stream, u64::MAX, |_| ()).ok()?;
            stream.write_all(&(first.len() as u64 + rest).to_le_bytes()).ok()
        }
        "dial" => {
            let told = match dial(number(1)? as u32) {
                Ok(mut host) => echo(&mut host).map_or("broken", |()| "done"),
                Err(_) => "refused",
            };
            stream.write_all(told.as_bytes()).ok()
        }
        "interrupts" => stream.write_all(&fs::read("/proc/interrupts").ok()?).ok(),
        "kicks" => stream.write_all(&kicks().unwrap_or_else(|error| error.to_string()).into_bytes()).ok(),
        _ => stream.write_all(b"what?").ok(),
    }
}

fn read_line(stream: &mut UnixStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 100 {
        stream.read_exact(&mut byte).ok()?;
        if byte[0] == b'\n' {
            return String::from_utf8(line).ok();
        }
        line.push(byte[0]);
    }
    None
}

/// `SO_VM_SOCKETS_BUFFER_MAX_SIZE` and `SO_VM_SOCKETS_BUFFER_SIZE`.
fn widen(stream: &UnixStream, bytes: Option<u64>) {
    for name in [2, 0] {
        if let Some(bytes) = bytes {
            // SAFETY: the value is 8 bytes, as is said.
            unsafe { setsockopt(stream.as_raw_fd(), AF_VSOCK, name, &bytes, 8) };
        }
    }
}

fn drain(stream: &mut UnixStream, most: u64, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut count = 0;
    while count < most {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        each(&buffer[..got]);
        count += got as u64;
    }
    Ok(count)
}

fn send(stream: &mut UnixStream, bytes: u64, fill: impl Fn(&mut [u8], u64), once: bool) -> Option<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < bytes {
        let here = (CHUNK as u64).min(bytes - done) as usize;
        if !once || done == 0 {
            fill(&mut buffer[..here], done);
        }
        stream.write_all(&buffer[..here]).ok()?;
        done += here as u64;
    }
    stream.shutdown(Shutdown::Write).ok()?;
    // The other side closes first, so that nothing is lost.
    stream.read(&mut buffer).ok()?;
    Some(())
}

fn echo(stream: &mut UnixStream) -> Option<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let got = stream.read(&mut buffer).ok()?;
        if got == 0 {
            return stream.shutdown(Shutdown::Write).ok();
        }
        stream.write_all(&buffer[..got]).ok()?;
    }
}

fn dial(port: u32) -> io::Result<UnixStream> {
    let stream = vsock()?;
    let host = Address { family: 40, reserved: 0, port, cid: 2, zero: 0 };
    // SAFETY: the address is 16 bytes, as is said.
    check(unsafe { connect(stream.as_raw_fd(), &host, 16) })?;
    Ok(stream)
}

/// How often the guest has kicked a virtio PCI device since this was first called.
fn kicks() -> io::Result<String> {
    let tracing = "/sys/kernel/tracing";
    if fs::metadata(format!("{tracing}/kprobe_events")).is_err() {
        let (kind, target) = (c"tracefs".as_ptr().cast(), c"/sys/kernel/tracing".as_ptr().cast());
        // SAFETY: C strings that live for ever.
        check(unsafe { mount(kind, target, kind, 0, c"".as_ptr().cast()) })?;
    }
    if fs::metadata(format!("{tracing}/events/kprobes/kick")).is_err() {
        fs::write(format!("{tracing}/kprobe_events"), "p:kick vp_notify\n")?;
        fs::write(format!("{tracing}/events/kprobes/kick/enable"), "1")?;
    }
    fs::read_to_string(format!("{tracing}/kprobe_profile"))
}

/// Bytes that depend on where they are; `at` is a multiple of 8.
fn fill(buffer: &mut [u8], at: u64) {
    for (word, index) in buffer.chunks_mut(8).zip(at / 8..) {
        let value = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ index;
        word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
    }
}

/// FNV-1a, over bytes as they come.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
