//! Signals and processes, where neither std nor rustix reach.
// UNSAFETY: handlers of signals, signals by number and to every process, and waitid(2) with its answer are raw calls;
// this module is where the agent makes them.
#![expect(unsafe_code, reason = "see the UNSAFETY note above")]

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;

/// Where the handler writes the numbers of signals; -1 before there is a reader.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The signals that arrive, one number each.
pub(crate) struct Signals {
    pipe: UnixStream,
}

impl Signals {
    /// Catches `numbers` from now on. To be called once.
    pub(crate) fn catch(numbers: &[i32]) -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        // A full pipe has enough to say already; the handler must not wait.
        writer.set_nonblocking(true)?;
        PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
        for &number in numbers {
            // SAFETY: all-zero bytes are a valid `sigaction`: no flags, empty mask, no restorer.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
            // SAFETY: `action` lives through the call and names a handler of the right type, which only does what
            // signal-safety(7) allows. No old action is asked for.
            if unsafe { libc::sigaction(number, &raw const action, std::ptr::null_mut()) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { pipe: reader })
    }

    /// Waits for the next signal; 0 if none can come any more.
    pub(crate) fn next(&mut self) -> i32 {
        let mut number = [0];
        match self.pipe.read_exact(&mut number) {
            Ok(()) => i32::from(number[0]),
            Err(_) => 0,
        }
    }
}

extern "C" fn on_signal(number: libc::c_int) {
    // SAFETY: errno is thread-local and always valid; the interrupted code must find it as it was.
    let errno = unsafe { *libc::__errno_location() };
    tell(number);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn tell(number: i32) {
    let fd = PIPE.load(Ordering::SeqCst);
    let byte = u8::try_from(number).unwrap_or(0);
    // SAFETY: one byte from a live local; write(2) is async-signal-safe, and a bad descriptor is only an error.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) };
}

/// Has the reaper look again, as if a child had exited.
pub(crate) fn wake_reaper() {
    tell(libc::SIGCHLD);
}

/// Sends a signal to a process group, by number, so that real-time signals work too. Failure means that it has gone.
pub(crate) fn send_to_group(group: Pid, number: i32) {
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    unsafe { libc::kill(-group.as_raw_nonzero().get(), number) };
}

/// Sends a signal to every process but this one.
pub(crate) fn send_to_all(number: i32) {
    // SAFETY: as above.
    unsafe { libc::kill(-1, number) };
}

/// A child that has exited and that nobody has waited for; it stays so.
pub(crate) fn exited_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is room for one siginfo_t, which is what the call writes.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) };
    if result != 0 {
        return None;
    }
    // SAFETY: all-zero bytes are a valid siginfo_t, and on success the kernel has written one over them.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid(2) fills in si_pid, and leaves it zero when there was no child to report.
    Pid::from_raw(unsafe { info.si_pid() })
}

/// Whether this process has children at all, exited or not.
pub(crate) fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is room for one siginfo_t, which is what the call writes.
    unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) == 0 }
}
