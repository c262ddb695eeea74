//! From the kernel's first process to a guest that answers.
//!
//! ```text
//!  initramfs: console, kernel's file systems, command line, "boot" modules, disks
//!       │ overlay of the read-only base and the VM's own disk becomes /
//!       ▼
//!  root: /proc /sys /dev …, hostname, loopback
//!       │ "vsock" modules, listener, Hello to the host          │ "serial" modules, serial link
//!       ▼                                                       ▼
//!  PID 1: reaps, and waits for the order to go down
//! ```
//!
//! Whatever fails before the guest can answer is said on the console, and the guest powers off: a kernel panic would
//! hide the line.

mod command_line;
mod disks;
mod loopback;
mod modules;
mod names;
mod root;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bandsox_proto::chain;
use bandsox_proto::v2::ShutdownMode;

use crate::agent::Agent;
use crate::children::Children;
use crate::console::say;
use crate::shutdown::{self, Disks, GRACE_MS, Order};
use crate::signals::Signals;
use crate::{control, serial, vsock};
use command_line::{Boot, Transport};
use modules::{Modules, When};

/// The signals by which the usual programs ask PID 1 to go down: busybox's `halt`, `poweroff`, `reboot`; the kernel's
/// ctrl-alt-del; a power failure; systemd's SIGRTMIN+4 and +5.
const SIGNALS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGPWR,
    SIGRTMIN + 4,
    SIGRTMIN + 5,
];

/// As the C library counts: it keeps the first two for itself.
const SIGRTMIN: i32 = 34;

/// Boots, serves, and takes the guest down.
pub(crate) fn run() -> ! {
    std::panic::set_hook(Box::new(|info| say(&format!("internal error: {info}"))));
    let booted = match boot() {
        Ok(booted) => booted,
        Err(error) => {
            say(&format!("cannot boot: {}", chain(&*error)));
            // The console is slow, and the host reads the line from there.
            std::thread::sleep(Duration::from_millis(100));
            shutdown::finish(ShutdownMode::PowerOff)
        }
    };
    let Booted { agent, mut signals, orders, disks, serial: _serial } = booted;
    loop {
        let order = match signals.next() {
            0 | libc::SIGCHLD => {
                agent.children.reap();
                orders.try_recv().ok()
            }
            libc::SIGTERM | libc::SIGINT | SIGREBOOT => Some(order(ShutdownMode::Reboot)),
            _ => Some(order(ShutdownMode::PowerOff)),
        };
        if let Some(order) = order {
            agent.stopping.store(true, Ordering::Relaxed);
            shutdown::run(order, &disks, || agent.children.reap());
        }
    }
}

/// systemd's `SIGRTMIN+5`.
const SIGREBOOT: i32 = SIGRTMIN + 5;

fn order(mode: ShutdownMode) -> Order {
    Order { mode, grace_ms: GRACE_MS }
}

struct Booted {
    agent: Arc<Agent>,
    signals: Signals,
    orders: Receiver<Order>,
    disks: Disks,
    serial: Receiver<bandsox_proto::mux::Link>,
}

type Failure = Box<dyn std::error::Error>;

fn boot() -> Result<Booted, Failure> {
    root::mount_kernel_file_systems()?;
    root::open_console();
    let wanted = Boot::parse(&std::fs::read_to_string("/proc/cmdline")?)?;
    let modules = Modules::open()?;
    modules.load(When::Boot)?;
    let disks = root::enter(&wanted)?;
    root::furnish();
    names::provide(Path::new("/"), &root::set_hostname(wanted.hostname.as_deref()));
    if let Err(error) = loopback::bring_up() {
        say(&format!("no loopback interface: {}", chain(&error)));
    }
    root::set_limits();

    let signals = Signals::catch(&SIGNALS)?;
    let (orders, orders_taken) = channel();
    let (ports, moves) = vsock::Port::new()?;
    let agent = Arc::new(Agent::new(Children::default(), Some(orders), Some(ports), false));
    let port = if wanted.transport == Transport::Vsock {
        open_vsock(&agent, &modules, wanted.port, moves)
    } else {
        0
    };
    let serial = open_serial(&agent, modules, port)?;
    Ok(Booted { agent, signals, orders: orders_taken, disks, serial })
}

/// Listens, tells the host, and returns the port; 0 if there is no vsock here.
fn open_vsock(agent: &Arc<Agent>, modules: &Modules, port: u32, moves: vsock::Moves) -> u32 {
    let opened = modules.load(When::Vsock).map_err(Failure::from).and_then(|()| {
        let listener = vsock::listen(port)?;
        let control = vsock::connect(port)?;
        Ok((listener, control))
    });
    let (listener, stream) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            say(&format!("vsock does not work here, using serial: {}", chain(&*error)));
            return 0;
        }
    };
    let shared = Arc::clone(agent);
    let serving = std::thread::Builder::new().name("vsock".to_owned()).stack_size(128 * 1024);
    let served = serving.spawn(move || vsock::serve(&shared, listener, port, &moves));
    let greeted =
        served.and_then(|_| control::greet(agent, stream, control::hello(&["vsock"], port)));
    match greeted {
        Ok(()) => port,
        Err(error) => {
            say(&format!("cannot say hello over vsock: {}", chain(&error)));
            0
        }
    }
}

/// Opens the serial line beside what follows: the host is not kept waiting for it.
fn open_serial(
    agent: &Arc<Agent>,
    modules: Modules,
    port: u32,
) -> std::io::Result<Receiver<bandsox_proto::mux::Link>> {
    let (link, kept) = channel();
    let agent = Arc::clone(agent);
    let thread = std::thread::Builder::new().name("late".to_owned()).stack_size(256 * 1024);
    thread.spawn(move || {
        if let Err(error) = modules.load(When::Serial) {
            say(&chain(&error));
        }
        if let Some(line) = serial::start(&agent, port) {
            link.send(line).ok();
        }
        if let Err(error) = modules.load(When::Late) {
            say(&chain(&error));
        }
        say(&ready_line(port));
    })?;
    Ok(kept)
}

/// What the console says of a guest that is well, so that a log that is read later shows each boot.
fn ready_line(port: u32) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    match port {
        0 => format!("{version} on Linux {kernel} listens on the serial link"),
        port => format!("{version} on Linux {kernel} listens on vsock port {port}"),
    }
}
