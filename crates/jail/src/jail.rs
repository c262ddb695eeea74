//! The launchers that a monitor chooses from.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bandsox_engine::{InheritedFd, LaunchError, LaunchSpec, Launcher, Process};
use rustix::process::{getgid, getuid};

use crate::cgroup::Cgroups;
use crate::libraries;
use crate::order::{Confinement, Order, WireLimits};
use crate::packet;
use crate::pieces::Piece;
use crate::process::Guarded;

/// The program that runs [`launcher_main`](crate::launcher_main).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// Which program.
    pub program: PathBuf,
    /// With which arguments.
    pub args: Vec<OsString>,
}

impl Default for Helper {
    /// This very program, called as `__jail`.
    fn default() -> Self {
        // The link leads to this program even after its file was replaced by a newer one.
        Self { program: PathBuf::from("/proc/self/exe"), args: vec!["__jail".into()] }
    }
}

/// Starts engines in a jail.
///
/// As root, each under a user id of its own; as an ordinary user, under that user's id in a
/// user namespace.
#[derive(Clone, Debug)]
pub struct Jail {
    vm: String,
    user: u32,
    helper: Helper,
    without: Vec<Piece>,
}

/// First of the user ids that engines run under when root starts them: `BS` in ASCII, far from
/// what is given to people, services and containers.
const FIRST_USER: u32 = 0x4253_0000;

impl Jail {
    /// A jail for the machine `vm`, whose CID is `cid`: while it runs no other has that, so no
    /// other has the same user id either.
    #[must_use]
    pub fn new(vm: &str, cid: u32) -> Self {
        let user = FIRST_USER | (cid & 0xffff);
        Self { vm: vm.to_owned(), user, helper: Helper::default(), without: vec![] }
    }

    /// Uses another program as the launcher, for callers that are not `bandsox`.
    #[must_use]
    pub fn with_helper(self, helper: Helper) -> Self {
        Self { helper, ..self }
    }

    /// Leaves a piece of the jail out: for tests, which see that this is found out.
    #[must_use]
    pub fn without(mut self, piece: Piece) -> Self {
        self.without.push(piece);
        self
    }

    fn confinement(&self) -> Confinement {
        let uid = getuid();
        if uid.is_root() {
            Confinement::OtherUser { uid: self.user }
        } else {
            Confinement::SameUser { uid: uid.as_raw(), gid: getgid().as_raw() }
        }
    }
}

impl Launcher for Jail {
    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Process>, LaunchError> {
        let (cgroups, missing) = Cgroups::make(&self.vm, &spec.limits);
        let plugins: Vec<&Path> = spec
            .load_paths
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
            .map(PathBuf::as_path)
            .collect();
        let libraries = libraries::of(&spec.program, &plugins)?;
        let launch = Launch {
            helper: &self.helper,
            confinement: self.confinement(),
            libraries: libraries.into_iter().collect(),
            cgroups,
            missing,
            without: &self.without,
        };
        launch.go(spec)
    }

    fn describe(&self) -> String {
        match self.confinement() {
            Confinement::OtherUser { uid } => format!("jail, as user {uid}"),
            Confinement::SameUser { uid, .. } => {
                format!("jail, as user {uid} in a user namespace")
            }
            Confinement::None => "no jail".to_owned(),
        }
    }
}

/// Starts engines without a jail, for debugging. Their lives are tied to the caller's all the
/// same.
#[derive(Clone, Debug, Default)]
pub struct NoJail {
    helper: Helper,
}

impl NoJail {
    /// Uses another program as the launcher, for callers that are not `bandsox`.
    #[must_use]
    pub fn with_helper(helper: Helper) -> Self {
        Self { helper }
    }
}

impl Launcher for NoJail {
    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Process>, LaunchError> {
        tracing::warn!("--no-jail: the engine runs with everything that this user may do");
        let launch = Launch {
            helper: &self.helper,
            confinement: Confinement::None,
            libraries: vec![],
            cgroups: Cgroups::none(),
            missing: vec![],
            without: &[],
        };
        launch.go(spec)
    }

    fn describe(&self) -> String {
        "no jail (--no-jail): the engine runs with everything that this user may do".to_owned()
    }
}

/// One launch, decided on.
struct Launch<'a> {
    helper: &'a Helper,
    confinement: Confinement,
    libraries: Vec<PathBuf>,
    cgroups: Cgroups,
    missing: Vec<String>,
    without: &'a [Piece],
}

impl Launch<'_> {
    fn go(self, spec: LaunchSpec) -> Result<Box<dyn Process>, LaunchError> {
        let Self { helper, confinement, libraries, cgroups, mut missing, without } = self;
        let LaunchSpec { program, args, fds, stderr, load_paths, devices, limits } = spec;
        if let Err(source) = program.metadata() {
            return Err(LaunchError::NoProgram { path: program, source });
        }
        let mut seen = vec![program.clone()];
        seen.extend(load_paths);
        seen.extend(libraries);
        let (fds, numbers): (Vec<OwnedFd>, Vec<i32>) =
            fds.into_iter().map(|InheritedFd { fd, number }| (fd, number)).unzip();
        let order = Order {
            confinement,
            program: program.into(),
            args,
            load_paths: seen.into_iter().map(PathBuf::into_os_string).collect(),
            devices: devices.into_iter().map(PathBuf::into_os_string).collect(),
            limits: WireLimits::from(&limits),
            numbers,
            without: without.to_vec(),
        };
        let mut handed: Vec<BorrowedFd<'_>> = vec![stderr.as_fd()];
        handed.extend(fds.iter().map(AsFd::as_fd));

        let (control, theirs) = packet::pair().map_err(helper_failed("connected to"))?;
        let launcher = spawn(helper, theirs).map_err(helper_failed("started"))?;
        // Before it has an order, so that all it makes is in there with it.
        missing.extend(cgroups.take_in(launcher.id()));
        packet::send(&control, &order, &handed).map_err(helper_failed("told what to do"))?;
        drop(handed);
        let process = Guarded::started(control, launcher, cgroups, missing)?;
        Ok(Box::new(process))
    }
}

fn helper_failed(step: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError::Helper { step, source }
}

fn spawn(helper: &Helper, control: OwnedFd) -> io::Result<std::process::Child> {
    Command::new(&helper.program)
        .args(&helper.args)
        .env_clear()
        .current_dir("/")
        .stdin(control)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
