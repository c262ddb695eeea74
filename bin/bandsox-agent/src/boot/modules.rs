//! Kernel modules, out of the initramfs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::Deserialize;

/// The list that the host wrote, in loading order.
const LIST: &str = "/etc/bandsox/modules.json";

/// When to load a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum When {
    /// Before anything is mounted.
    Boot,
    /// Before listening on vsock.
    Vsock,
    /// Before opening the serial line.
    Serial,
    /// Once the guest is ready.
    Late,
}

#[derive(Debug, Deserialize)]
struct Module {
    name: String,
    file: String,
    when: When,
}

/// The modules that the initramfs has. They stay within reach when the root has changed.
#[derive(Debug)]
pub(super) struct Modules {
    initramfs: OwnedFd,
    list: Vec<Module>,
}

/// Why a module is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModuleError {
    /// There is no list, or it cannot be read.
    #[error("cannot read {LIST}")]
    List(#[source] io::Error),
    /// The list is not what it should be.
    #[error("{LIST} makes no sense")]
    Json(#[source] serde_json::Error),
    /// The file is missing.
    #[error("cannot open the module {name}")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not take it.
    #[error("cannot load the module {name}")]
    Load {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl Modules {
    /// Reads the list.
    pub(super) fn open() -> Result<Self, ModuleError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let initramfs = rustix::fs::openat(CWD, "/", flags, Mode::empty());
        let initramfs = initramfs.map_err(|error| ModuleError::List(error.into()))?;
        let mut text = Vec::new();
        let read = File::open(LIST).and_then(|mut file| file.read_to_end(&mut text));
        read.map_err(ModuleError::List)?;
        let list = serde_json::from_slice(&text).map_err(ModuleError::Json)?;
        Ok(Self { initramfs, list })
    }

    /// Loads the modules of one moment, in the list's order.
    pub(super) fn load(&self, when: When) -> Result<(), ModuleError> {
        self.list
            .iter()
            .filter(|module| module.when == when)
            .try_for_each(|module| self.load_one(module))
    }

    fn load_one(&self, module: &Module) -> Result<(), ModuleError> {
        let name = || module.name.clone();
        let path = Path::new(&module.file).strip_prefix("/").unwrap_or(Path::new(&module.file));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.initramfs, path, flags, Mode::empty())
            .map_err(|error| ModuleError::Open { name: name(), source: error.into() })?;
        match rustix::system::finit_module(&file, c"", 0) {
            // There already: built in, or a dependency of two moments.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(ModuleError::Load { name: name(), source: error.into() }),
        }
    }
}
