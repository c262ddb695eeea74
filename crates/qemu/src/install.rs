//! Where QEMU is, and what it loads besides itself.

use std::io;
use std::path::{Path, PathBuf};

/// An installed QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuInstall {
    /// `qemu-system-x86_64`, by absolute path.
    pub program: PathBuf,
    /// Folders with firmware, in the order in which QEMU searches them (`-L`).
    pub firmware: Vec<PathBuf>,
    /// Loadable modules that this build of QEMU needs, none in most builds.
    pub modules: Vec<PathBuf>,
}

impl QemuInstall {
    /// Looks QEMU up: `program` if given, else the usual places.
    ///
    /// A QEMU that was unpacked into a folder of its own finds its firmware there.
    ///
    /// # Errors
    ///
    /// See [`InstallError`].
    pub fn find(program: Option<&Path>) -> Result<Self, InstallError> {
        let program = match program {
            Some(program) => existing(program)?,
            None => USUAL_PLACES
                .iter()
                .map(PathBuf::from)
                .find(|place| place.is_file())
                .ok_or(InstallError::Nowhere)?,
        };
        let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let firmware = firmware_folders(prefix);
        for needed in FIRMWARE {
            if !firmware.iter().any(|folder| folder.join(needed).is_file()) {
                return Err(InstallError::NoFirmware { file: needed, searched: firmware });
            }
        }
        let modules = vec![prefix.join("lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so")];
        let modules = modules.into_iter().filter(|module| module.is_file()).collect();
        Ok(Self { program, firmware, modules })
    }
}

const USUAL_PLACES: [&str; 2] =
    ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"];

/// What q35 loads to start a kernel that was given on the command line: the firmware, and one
/// option ROM per kind of kernel.
const FIRMWARE: [&str; 3] = ["bios-256k.bin", "pvh.bin", "linuxboot_dma.bin"];

fn existing(program: &Path) -> Result<PathBuf, InstallError> {
    let missing = |source| InstallError::Missing { path: program.to_owned(), source };
    let absolute = std::path::absolute(program).map_err(missing)?;
    if absolute.metadata().map_err(missing)?.is_file() {
        Ok(absolute)
    } else {
        Err(missing(io::ErrorKind::IsADirectory.into()))
    }
}

fn firmware_folders(prefix: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for folder in [
        prefix.join("share/qemu"),
        prefix.join("share/seabios"),
        PathBuf::from("/usr/share/qemu"),
        PathBuf::from("/usr/share/seabios"),
    ] {
        if folder.is_dir() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// No usable QEMU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// None of the usual places has one.
    #[error("qemu-system-x86_64 is not installed; on Debian: apt-get install qemu-system-x86")]
    Nowhere,
    /// It is not where it was said to be.
    #[error("no QEMU at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is there without its firmware.
    #[error(
        "QEMU's {file} is in none of {searched:?}; on Debian: apt-get install qemu-system-data seabios"
    )]
    NoFirmware {
        /// Which file.
        file: &'static str,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
}
