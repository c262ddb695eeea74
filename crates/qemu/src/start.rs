//! From a machine's description to a running QEMU.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bandsox_engine::{
    Accelerator, Disk, EngineEvent, EngineInfo, ExitStatus, InheritedFd, LaunchError, LaunchSpec,
    Launcher, Limits, MachineSpec, Process, SealError, SealReport, SerialLink,
};
use bandsox_qmp::{Lines, Version, handshake};

use crate::arguments::{Wiring, arguments};
use crate::commander::Commander;
use crate::engine::QemuEngine;
use crate::install::QemuInstall;
use crate::watch::{StderrTail, Watch};

/// Starts QEMU's process for `machine`. No thread is started and nothing is waited for.
///
/// # Errors
///
/// See [`StartError`].
pub fn launch(
    install: &QemuInstall,
    machine: MachineSpec,
    accelerator: Accelerator,
    launcher: &dyn Launcher,
) -> Result<Starting, StartError> {
    let plumbing = |source| StartError::Plumbing { source };
    let (qmp, qmp_theirs) = UnixStream::pair().map_err(plumbing)?;
    let (stderr, stderr_theirs) = io::pipe().map_err(plumbing)?;
    rustix::io::ioctl_fionbio(&stderr, true).map_err(|errno| plumbing(errno.into()))?;

    let limits = limits(&machine).map_err(plumbing)?;
    let (args, fds, mut load_paths) = wire(install, machine, accelerator, qmp_theirs.into());
    load_paths.extend(install.firmware.iter().cloned());
    load_paths.extend(install.modules.iter().cloned());
    let devices = match accelerator {
        Accelerator::Tcg => vec![],
        Accelerator::Kvm => vec!["/dev/kvm".into()],
    };
    let process = launcher
        .launch(LaunchSpec {
            program: install.program.clone(),
            args,
            fds,
            stderr: stderr_theirs.into(),
            load_paths,
            devices,
            limits,
        })
        .map_err(|source| StartError::Launch { source })?;
    Ok(Starting { process, qmp, stderr, accelerator })
}

/// Translation buffer of TCG, in MiB, which QEMU allocates as it fills.
const TRANSLATION_MIB: u64 = 1024;

/// What QEMU itself takes, guest RAM and translations apart, in MiB; generous.
const QEMU_MIB: u64 = 512;

fn limits(machine: &MachineSpec) -> io::Result<Limits> {
    let overlay_bytes = machine.overlay.file.metadata()?.len();
    Ok(Limits {
        open_files: 256,
        // Virtual CPUs, the pool of 64 that does disk I/O, and QEMU's own few.
        tasks: u64::from(machine.vcpus) + 80,
        file_size: overlay_bytes,
        memory: machine.ram.bytes().saturating_add((TRANSLATION_MIB + QEMU_MIB) << 20),
    })
}

/// Numbers every descriptor and builds the command line that names them.
fn wire(
    install: &QemuInstall,
    machine: MachineSpec,
    accelerator: Accelerator,
    qmp: OwnedFd,
) -> (Vec<OsString>, Vec<InheritedFd>, Vec<std::path::PathBuf>) {
    let MachineSpec { vcpus, ram, kernel, initrd, cmdline, base, overlay, console, serial, vsock } =
        machine;
    let (Disk { file: base }, Disk { file: overlay }) = (base, overlay);
    let SerialLink { port, uart } = serial;
    let ram_bytes = ram.bytes();

    let mut fds = Vec::new();
    let mut next_number = 3;
    let mut hand_over = |fd: OwnedFd| {
        let number = next_number;
        next_number += 1;
        fds.push(InheritedFd { fd, number });
        number
    };
    let wiring = Wiring {
        accelerator,
        vcpus,
        ram_bytes,
        ram: hand_over(ram.into()),
        firmware: install.firmware.clone(),
        kernel,
        initrd,
        cmdline,
        base: hand_over(base.into()),
        overlay: hand_over(overlay.into()),
        qmp: hand_over(qmp),
        console: hand_over(console),
        agent_uart: hand_over(uart),
        agent_port: hand_over(port),
        vsock: vsock.map(&mut hand_over),
    };
    let args = arguments(&wiring);
    (args, fds, vec![wiring.kernel, wiring.initrd])
}

/// A QEMU that was started and has not answered yet. Dropping it kills QEMU.
pub struct Starting {
    process: Box<dyn Process>,
    qmp: UnixStream,
    stderr: PipeReader,
    accelerator: Accelerator,
}

impl Starting {
    /// Process id of QEMU on this host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until QEMU has loaded everything, seals it, and watches it from then on: what
    /// happens is sent to `events`. Virtual CPUs stand still until
    /// [`Engine::boot`](bandsox_engine::Engine::boot).
    ///
    /// A vsock device must be served before this is called: QEMU waits for its back-end.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; QEMU is dead then.
    pub fn connect(
        self,
        events: Sender<EngineEvent>,
        timeout: Duration,
    ) -> Result<(QemuEngine, SealReport), StartError> {
        let Self { mut process, qmp, stderr, accelerator } = self;
        let plumbing = |source| StartError::Plumbing { source };
        let mut tail = StderrTail::new(stderr);
        let mut lines = Lines::new(qmp.try_clone().map_err(plumbing)?);

        let version = match handshake(&mut lines, Instant::now() + timeout) {
            Ok(version) => version,
            Err(error) => return Err(why_no_handshake(process, tail, error, timeout)),
        };
        if version < OLDEST {
            return Err(StartError::TooOld { found: version.to_string() });
        }
        let sealed = process.seal().map_err(|source| StartError::Seal { source })?;

        qmp.set_write_timeout(Some(COMMAND_TIMEOUT)).map_err(plumbing)?;
        let kill_switch = process.kill_switch().map_err(plumbing)?;
        let info = EngineInfo {
            engine: "qemu",
            accelerator: accelerator.as_str(),
            version: version.to_string(),
            pid: process.pid(),
        };
        let (commander, listener) = Commander::new(qmp);
        tail.drain();
        Watch { lines, listener, tail, process, events }.spawn().map_err(plumbing)?;
        Ok((QemuEngine::new(info, commander, kill_switch), sealed))
    }
}

/// The oldest QEMU that has what the command line asks for.
const OLDEST: Version = Version { major: 7, minor: 2, micro: 0 };

/// How long a command may take; QEMU answers in milliseconds unless the host is overloaded.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A QEMU that gave up has usually said why, on its standard error.
fn why_no_handshake(
    mut process: Box<dyn Process>,
    mut tail: StderrTail,
    error: io::Error,
    timeout: Duration,
) -> StartError {
    let ended = process.wait(Duration::from_secs(if died(&error) { 5 } else { 0 }));
    tail.drain();
    match ended {
        Some(status) => StartError::Died { status, stderr_tail: tail.into_text() },
        None if error.kind() == io::ErrorKind::TimedOut => {
            StartError::NoAnswer { waited: timeout, stderr_tail: tail.into_text() }
        }
        None => StartError::Handshake { source: error },
    }
}

fn died(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Why QEMU does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A socket pair, a pipe or a thread could not be made.
    #[error("QEMU's connections could not be made")]
    Plumbing {
        /// What the operating system said.
        source: io::Error,
    },
    /// The process could not be started.
    #[error("QEMU could not be started")]
    Launch {
        /// Why.
        source: LaunchError,
    },
    /// QEMU ended before it answered.
    #[error("QEMU ended with {status} while starting: {stderr_tail}")]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        stderr_tail: String,
    },
    /// QEMU did not answer.
    #[error("QEMU did not answer within {waited:?}: {stderr_tail}")]
    NoAnswer {
        /// How long it was waited for.
        waited: Duration,
        /// What it said last.
        stderr_tail: String,
    },
    /// What QEMU answered is no greeting.
    #[error("QEMU's control connection failed")]
    Handshake {
        /// What went wrong.
        source: io::Error,
    },
    /// QEMU is too old.
    #[error("QEMU {found} is too old; want 7.2 or later")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The process could not be sealed, so it was killed.
    #[error("QEMU's jail could not be sealed")]
    Seal {
        /// Why.
        source: SealError,
    },
}
