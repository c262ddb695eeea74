//! One step of a launch that failed, in a form that crosses processes.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bandsox_engine::LaunchError;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// What was tried, as in "`step` failed".
    pub(crate) step: String,
    /// The path that it was tried on.
    pub(crate) path: Option<OsString>,
    pub(crate) errno: i32,
}

/// What a failure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The program itself.
    Program,
    /// A file that it loads.
    LoadPath,
    /// A restriction.
    Confine,
    /// Namespaces that root makes.
    Namespaces,
    /// The namespace that lets everybody else make the others.
    UserNamespace,
}

impl Failure {
    /// A failure of the confinement at `step`.
    pub(crate) fn at(step: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self {
            kind: Kind::Confine,
            step: step.to_owned(),
            path: None,
            errno: errno.raw_os_error(),
        }
    }

    /// A failure that concerns `path`.
    pub(crate) fn on(kind: Kind, step: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        let path = path.as_os_str().to_owned();
        move |errno| Self {
            kind,
            step: step.to_owned(),
            path: Some(path),
            errno: errno.raw_os_error(),
        }
    }

    /// A failure with the standard library's error.
    pub(crate) fn io(kind: Kind, step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self {
            kind,
            step: step.to_owned(),
            path: None,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }

    /// What the operating system said.
    pub(crate) fn source(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }

    /// The step, with the path that it was about.
    pub(crate) fn described(&self) -> String {
        match &self.path {
            Some(path) => format!("{} ({})", self.step, path.to_string_lossy()),
            None => self.step.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.described(), self.source())
    }
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> Self {
        let source = failure.source();
        let path = PathBuf::from(failure.path.clone().unwrap_or_default());
        match failure.kind {
            Kind::Program => Self::NoProgram { path, source },
            Kind::LoadPath => Self::LoadPath { path, source },
            Kind::Confine => Self::Confine { step: failure.described(), hint: "", source },
            Kind::Namespaces => {
                Self::Confine { step: failure.described(), hint: NAMESPACES_HINT, source }
            }
            Kind::UserNamespace => {
                Self::Confine { step: failure.described(), hint: USER_NAMESPACE_HINT, source }
            }
        }
    }
}

/// What to do where unprivileged users may not make namespaces.
const USER_NAMESPACE_HINT: &str = "; this host does not let ordinary users make user namespaces: \
    allow it (sysctl kernel.unprivileged_userns_clone=1, \
    kernel.apparmor_restrict_unprivileged_userns=0), run as root, or use --no-jail for debugging";

/// What to do where root is not quite root.
const NAMESPACES_HINT: &str = "; root lacks CAP_SYS_ADMIN here, as in a container: \
    give it that, run as an ordinary user, or use --no-jail for debugging";
