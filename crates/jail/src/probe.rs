//! The probe: a program that tries what must fail, from the engine's place in the jail.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Resource, Uid, getrlimit, test_kill_process};
use rustix::thread::{
    CapabilitySets, UnshareFlags, capabilities, no_new_privs, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

use crate::sys;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was tried, as in "it could not `name`".
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// It failed, as it must.
    Denied {
        /// How.
        how: String,
    },
    /// It succeeded: the jail has a hole.
    Succeeded {
        /// What was reached.
        what: String,
    },
}

/// What the probe is told to aim at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Targets {
    /// A process of the host.
    pub(crate) pid: i32,
    /// A TCP port on the host's loopback that accepts connections.
    pub(crate) tcp_port: u16,
    /// Name of an abstract unix socket of the host.
    pub(crate) abstract_socket: String,
}

/// Descriptor on which the probe reports, one JSON object a line.
pub(crate) const REPORT_FD: i32 = 3;
/// Descriptor on which it learns that it is sealed.
pub(crate) const SEALED_FD: i32 = 4;

/// The probe's program: `bandsox __probe TARGETS`.
pub fn probe_main() -> ExitCode {
    let targets = std::env::args().nth(2).and_then(|text| serde_json::from_str(&text).ok());
    let Some(targets) = targets else { return ExitCode::FAILURE };
    match probe(&targets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn probe(targets: &Targets) -> io::Result<()> {
    let mut report = File::from(sys::inherited(REPORT_FD));
    let mut sealed = BufReader::new(File::from(sys::inherited(SEALED_FD)));
    let mut tell = |attempts: Vec<Attempt>| -> io::Result<()> {
        for attempt in attempts {
            writeln!(report, "{}", serde_json::to_string(&attempt)?)?;
        }
        writeln!(report)
    };
    tell(while_loading())?;
    sealed.read_line(&mut String::new())?;
    tell(once_sealed(targets))
}

fn while_loading() -> Vec<Attempt> {
    vec![
        attempt("read a host's file while loading", read_passwd()),
        attempt("see another process while loading", see_process_by_proc()),
        attempt("write a file while loading", write_file()),
    ]
}

fn once_sealed(targets: &Targets) -> Vec<Attempt> {
    vec![
        attempt("read a host's file", read_passwd()),
        attempt("see any file", see_any_file()),
        attempt("write a file", write_file()),
        attempt("execute a program", execute()),
        attempt("make a device", make_device()),
        attempt("mount a file system", mount_something()),
        attempt("connect over TCP", connect_tcp(targets.tcp_port)),
        attempt("connect to a socket outside", connect_abstract(&targets.abstract_socket)),
        attempt("see a process outside", see_process(targets.pid)),
        attempt("debug a process outside", debug(targets.pid)),
        attempt("see a process by /proc", see_process_by_proc()),
        attempt("become root", become_root()),
        attempt("hold a capability", hold_capability()),
        attempt("gain privileges by executing", gain_by_executing()),
        attempt("make a user namespace", make_namespace()),
        attempt("reach io_uring", reach_io_uring()),
        attempt("rename the host", rename_host()),
        attempt("dump core", dump_core()),
        attempt("start tasks without end", start_tasks()),
        attempt("open descriptors without end", open_descriptors()),
        attempt("use a descriptor that it was not given", use_stray_descriptor()),
    ]
}

/// What an attempt returns: what it reached, or why it reached nothing.
type Reached = Result<String, Box<dyn std::error::Error>>;

fn attempt(name: &str, reached: Reached) -> Attempt {
    let outcome = match reached {
        Ok(what) => Outcome::Succeeded { what },
        Err(error) => Outcome::Denied { how: error.to_string() },
    };
    Attempt { name: name.to_owned(), outcome }
}

fn read_passwd() -> Reached {
    Ok(format!("{} bytes of /etc/passwd", fs::read("/etc/passwd")?.len()))
}

fn see_any_file() -> Reached {
    let mut names = fs::read_dir("/")?.flatten().map(|entry| entry.path().display().to_string());
    names.next().ok_or_else(|| "/ is empty".into())
}

fn write_file() -> Reached {
    let mut error = None;
    for path in ["/x", "/tmp/x", "/dev/shm/x", "/empty/x", "/proc/self/comm"] {
        let opened = fs::OpenOptions::new().write(true).create(!path.ends_with("comm")).open(path);
        match opened {
            Ok(_) => return Ok(path.to_owned()),
            Err(refused) => error = Some(refused),
        }
    }
    Err(error.map_or("nothing was tried".into(), Into::into))
}

fn execute() -> Reached {
    let status = Command::new("/bin/true").status()?;
    Ok(format!("/bin/true: {status}"))
}

fn make_device() -> Reached {
    let null = rustix::fs::makedev(1, 3);
    mknodat(CWD, "/null", FileType::CharacterDevice, Mode::RUSR, null)?;
    Ok("/null".to_owned())
}

fn mount_something() -> Reached {
    mount("tmpfs", "/", "tmpfs", MountFlags::empty(), None)?;
    Ok("a tmpfs".to_owned())
}

fn connect_tcp(port: u16) -> Reached {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    Ok(format!("{:?}", stream.peer_addr()))
}

fn connect_abstract(name: &str) -> Reached {
    let address = SocketAddr::from_abstract_name(name)?;
    UnixStream::connect_addr(&address)?;
    Ok(format!("the abstract socket {name}"))
}

fn see_process(pid: i32) -> Reached {
    let pid = Pid::from_raw(pid).ok_or("no process was named")?;
    match test_kill_process(pid) {
        Ok(()) => Ok(format!("process {pid:?}, and may signal it")),
        // That it exists is known by this refusal.
        Err(Errno::PERM) => Ok(format!("process {pid:?}")),
        Err(errno) => Err(errno.into()),
    }
}

fn debug(pid: i32) -> Reached {
    let pid = Pid::from_raw(pid).ok_or("no process was named")?;
    sys::attach_debugger(pid)?;
    Ok(format!("process {pid:?}"))
}

fn see_process_by_proc() -> Reached {
    let is_other = |name: &String| name != "1" && name.bytes().all(|byte| byte.is_ascii_digit());
    let names = fs::read_dir("/proc")?.flatten();
    let mut others =
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_other);
    others.next().map(|pid| format!("process {pid}")).ok_or_else(|| "only itself".into())
}

fn become_root() -> Reached {
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    Ok("user 0".to_owned())
}

fn hold_capability() -> Reached {
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    let all = effective | permitted | inheritable;
    if all.is_empty() { Err("none is held".into()) } else { Ok(format!("{:#x}", all.bits())) }
}

fn gain_by_executing() -> Reached {
    if no_new_privs()? {
        Err("no_new_privs is set".into())
    } else {
        Ok("no_new_privs is not set".to_owned())
    }
}

fn make_namespace() -> Reached {
    // In a thread of its own: what comes after must be tried from the same place as before.
    let made = thread::spawn(|| sys::unshare(UnshareFlags::NEWUTS | UnshareFlags::NEWIPC));
    match made.join() {
        Ok(result) => result?,
        Err(_) => return Err("the thread failed".into()),
    }
    Ok("namespaces".to_owned())
}

fn reach_io_uring() -> Reached {
    match sys::try_io_uring() {
        Ok(()) | Err(Errno::FAULT) => Ok("the kernel's io_uring".to_owned()),
        Err(errno) => Err(errno.into()),
    }
}

fn rename_host() -> Reached {
    rustix::system::sethostname(b"owned")?;
    Ok("the host's name".to_owned())
}

fn dump_core() -> Reached {
    match getrlimit(Resource::Core).maximum {
        Some(0) => Err("core files may have no byte".into()),
        other => Ok(format!("core files of {other:?} bytes")),
    }
}

/// More than any limit that an engine is given.
const MANY: usize = 1000;

fn start_tasks() -> Reached {
    let mut threads = Vec::new();
    let mut refused = None;
    for _ in 0..MANY {
        let (stop, stopped) = mpsc::channel::<()>();
        match thread::Builder::new().stack_size(64 << 10).spawn(move || stopped.recv().ok()) {
            Ok(thread) => threads.push((stop, thread)),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let count = threads.len();
    for (stop, thread) in threads {
        drop(stop);
        thread.join().ok();
    }
    match refused {
        Some(error) => Err(format!("after {count}: {error}").into()),
        None => Ok(format!("{count} threads")),
    }
}

fn open_descriptors() -> Reached {
    let mut open = Vec::new();
    while open.len() < MANY {
        match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 0) {
            Ok(fd) => open.push(fd),
            Err(errno) => return Err(format!("after {}: {errno}", open.len()).into()),
        }
    }
    Ok(format!("{} descriptors", open.len()))
}

fn use_stray_descriptor() -> Reached {
    if let Some(number) = (SEALED_FD + 1..1024).find(|&number| sys::is_open(number)) {
        return Ok(format!("descriptor {number}"));
    }
    Err("there is none".into())
}
