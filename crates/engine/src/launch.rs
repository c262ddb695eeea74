//! How an engine's process comes to life: what it gets, who starts it, and how it ends.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::ExitStatus;

/// A process to be started with exactly this and nothing else.
///
/// The environment is empty, the working directory is `/`, standard input is `/dev/null`.
#[derive(Debug)]
pub struct LaunchSpec {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Descriptors that it inherits, besides 0, 1 and 2.
    pub fds: Vec<InheritedFd>,
    /// Standard output and standard error: usually a pipe's write end.
    pub stderr: OwnedFd,
    /// Files and directories that it reads while loading, each at its own path, read-only.
    /// Shared libraries of the program need not be listed.
    pub load_paths: Vec<PathBuf>,
    /// Device nodes that it opens while loading, read-write, such as `/dev/kvm`.
    pub devices: Vec<PathBuf>,
    /// What it may use.
    pub limits: Limits,
}

/// A descriptor and the number under which the process finds it.
#[derive(Debug)]
pub struct InheritedFd {
    /// What is handed over.
    pub fd: OwnedFd,
    /// Number in the new process, 3 or above.
    pub number: i32,
}

/// Bounds on a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open descriptors.
    pub open_files: u64,
    /// Processes and threads of its user.
    pub tasks: u64,
    /// Largest offset to which it may write in a file, in bytes.
    pub file_size: u64,
    /// Memory in bytes, guest RAM included; enforced where a cgroup can be made.
    pub memory: u64,
}

/// Starts processes in some degree of confinement.
pub trait Launcher: Send {
    /// Starts `spec`.
    ///
    /// The process never outlives the caller's process, however that ends.
    ///
    /// # Errors
    ///
    /// See [`LaunchError`]; nothing is left behind.
    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Process>, LaunchError>;

    /// One line on what confines the processes, for the log.
    fn describe(&self) -> String;
}

/// A started process.
///
/// Dropping it kills the process.
pub trait Process: Send {
    /// Process id on this host.
    fn pid(&self) -> u32;

    /// Takes away what was only needed to load: the file system becomes empty. Called once,
    /// after the program has opened everything.
    ///
    /// # Errors
    ///
    /// See [`SealError`].
    fn seal(&mut self) -> Result<SealReport, SealError>;

    /// A way to kill the process that works from any thread, while another one waits for it.
    ///
    /// # Errors
    ///
    /// What the operating system said.
    fn kill_switch(&self) -> io::Result<KillSwitch>;

    /// Waits until it has ended. `None` after `timeout`.
    fn wait(&mut self, timeout: Duration) -> Option<ExitStatus>;
}

/// Kills a process, by ending the half of a socket that its guardian listens to.
///
/// The guardian has the right to kill the process even where the caller has given it up.
#[derive(Debug)]
pub struct KillSwitch(OwnedFd);

impl KillSwitch {
    /// Wraps a socket whose other end kills the process as soon as this one stops sending.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Kills the process. Never waits; pulling it twice does nothing more.
    pub fn pull(&self) {
        // The only failure is that the guardian is gone, and the process with it.
        rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write).ok();
    }
}

/// What [`Process::seal`] achieved, in words for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealReport {
    /// Restrictions in force.
    pub applied: Vec<String>,
    /// Restrictions that this host did not allow, each with the reason.
    pub missing: Vec<String>,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The program is not there.
    #[error("no program at {}", path.display())]
    NoProgram {
        /// Where it was looked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file to load is missing or not readable for the process's user.
    #[error("{} cannot be made readable for the engine", path.display())]
    LoadPath {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The shared libraries of the program could not be found out.
    #[error("the shared libraries of {} could not be listed: {said}", program.display())]
    Libraries {
        /// Which program.
        program: PathBuf,
        /// What the dynamic linker said.
        said: String,
    },
    /// A step of the confinement failed.
    #[error("{step} failed{hint}")]
    Confine {
        /// Which step.
        step: String,
        /// What to do about it, starting with `; `, or nothing.
        hint: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The helper that starts processes failed itself.
    #[error("the launcher could not be {step}")]
    Helper {
        /// What was tried.
        step: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why a process could not be sealed. It should then be killed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The process, or the helper that watches it, is gone.
    #[error("the process ended before it was sealed")]
    Gone,
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// Which step.
        step: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The helper did not answer in time.
    #[error("the launcher did not answer within {waited:?}")]
    NoAnswer {
        /// How long it was waited for.
        waited: Duration,
    },
}
