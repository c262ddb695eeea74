//! Putting kernel, initramfs and manifest in place, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::boot_image::{BootImage, BootImageError};
use super::cpio::TooLarge;
use super::deb::{self, DebError};
use super::initramfs;
use super::manifest::{DIRECTORY, FileRecord, Kernel, LoadError, MANIFEST, Manifest};
use super::modules::{Library, Module, ModulesError};
use super::signature::Signatures;
use super::{Force, Installed, Source, host};
use crate::{atomic, digest};

/// Why a kernel could not be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// [`Source::Installed`] was asked for and there is nothing whole in place.
    #[error("no usable kernel is installed")]
    NotInstalled {
        /// What is wrong with what is there.
        source: LoadError,
    },
    /// [`Source::Host`] was asked for and the host has no kernel in reach.
    #[error(
        "this host has no kernel with modules in /boot and /lib/modules; give one with --kernel-deb (for example \
         linux-image-*-cloud-amd64 from `apt-get download`) or with --kernel and --modules"
    )]
    NoHostKernel,
    /// The kernel image is none.
    #[error("{path} cannot be used")]
    BootImage {
        /// The image or the package that it came in.
        path: PathBuf,
        /// What is wrong with it.
        source: BootImageError,
    },
    /// The package gave no kernel.
    #[error("{path} cannot be used")]
    Deb {
        /// The package.
        path: PathBuf,
        /// What is wrong with it.
        source: DebError,
    },
    /// The modules do not do.
    #[error("the modules of kernel {version} cannot be used")]
    Modules {
        /// The kernel's release.
        version: String,
        /// What is wrong with them.
        source: ModulesError,
    },
    /// Agent or modules do not fit into an initramfs.
    #[error("the initramfs cannot be built")]
    Initramfs(#[from] TooLarge),
    /// The operating system refused.
    #[error("could not {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Installs a kernel and an initramfs with `agent` as its `/init` into `store_dir/kernel`.
///
/// Run again with the same source and agent it changes nothing; a half-done or damaged installation is done again. The
/// old files stay in place until the new ones are whole, and a VM that has them open keeps them. Calls for one store, from
/// any process, wait for each other.
///
/// # Errors
///
/// [`InstallError`]; what was in place stays.
pub fn install(
    store_dir: &Path,
    source: &Source,
    force: Force,
    agent: &[u8],
) -> Result<Installed, InstallError> {
    let _lock = lock(store_dir)?;
    let dir = store_dir.join(DIRECTORY);
    let present =
        Manifest::read(&dir).and_then(|manifest| manifest.verify(&dir).map(|()| manifest));
    let source_digest = source_digest(source)?;
    let agent_sha256 = digest::of_bytes(agent);
    let parts = match (present, source) {
        (Ok(manifest), _)
            if force == Force::No && manifest.is_from(source, source_digest.as_deref()) =>
        {
            if manifest.agent_sha256 == agent_sha256 {
                return in_place(store_dir, Changed::No);
            }
            installed_parts(&dir, &manifest)?
        }
        (Ok(manifest), Source::Installed) => installed_parts(&dir, &manifest)?,
        (Err(source), Source::Installed) => return Err(InstallError::NotInstalled { source }),
        (_, _) => gather(store_dir, source, source_digest)?,
    };
    let initramfs = initramfs::build(&parts.version, &parts.modules, agent)?;
    let manifest = parts.manifest(&initramfs, agent_sha256);
    let is_same = Manifest::read(&dir).is_ok_and(|old| old == manifest && old.verify(&dir).is_ok());
    if is_same && force == Force::No {
        return in_place(store_dir, Changed::No);
    }
    replace(store_dir, &parts, &initramfs, &manifest)?;
    in_place(store_dir, Changed::Yes)
}

/// Everything that an installation is made of, but for the agent.
struct Parts {
    version: String,
    kernel_file: String,
    kernel: Vec<u8>,
    modules: Vec<Module>,
    has_vsock: bool,
    has_erofs: bool,
    source_sha256: Option<String>,
}

impl Parts {
    fn manifest(&self, initramfs: &[u8], agent_sha256: String) -> Manifest {
        let record = |file: &str, bytes: &[u8]| FileRecord {
            file: file.to_owned(),
            size: bytes.len() as u64,
            sha256: digest::of_bytes(bytes),
        };
        Manifest {
            format: 1,
            version: self.version.clone(),
            kernel: record(&self.kernel_file, &self.kernel),
            initramfs: record(INITRAMFS, initramfs),
            agent_sha256,
            modules: self.modules.iter().map(|module| module.name.clone()).collect(),
            has_vsock: self.has_vsock,
            has_erofs: self.has_erofs,
            source_sha256: self.source_sha256.clone(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    No,
    Yes,
}

fn in_place(store_dir: &Path, changed: Changed) -> Result<Installed, InstallError> {
    let kernel = Kernel::load(store_dir).map_err(|source| InstallError::NotInstalled { source })?;
    Ok(Installed { changed: changed == Changed::Yes, kernel })
}

/// Packages are recognised by their digest, so that an unchanged one is not unpacked again.
fn source_digest(source: &Source) -> Result<Option<String>, InstallError> {
    match source {
        Source::Deb { file } => {
            let read = File::open(file).and_then(|mut file| digest::of_reader(&mut file));
            read.map(|(digest, _)| Some(digest)).map_err(io_error("read", file))
        }
        Source::KernelAndModules { .. } | Source::Host | Source::Installed => Ok(None),
    }
}

/// Fetches kernel and modules from where they are.
fn gather(
    store_dir: &Path,
    source: &Source,
    source_sha256: Option<String>,
) -> Result<Parts, InstallError> {
    match source {
        Source::KernelAndModules { kernel, modules } => from_paths(kernel, modules),
        Source::Host => {
            let found = host::newest_in(Path::new("/")).ok_or(InstallError::NoHostKernel)?;
            from_paths(&found.kernel, &found.modules)
        }
        Source::Deb { file } => {
            let deb_error = |source| InstallError::Deb { path: file.clone(), source };
            let scratch = deb::scratch_in(store_dir).map_err(deb_error)?;
            let unpacked = deb::unpack(file, scratch.path()).map_err(deb_error)?;
            let parts = assemble(file, unpacked.kernel, scratch.path())?;
            Ok(Parts { source_sha256, ..parts })
        }
        Source::Installed => unreachable!("`install` has answered for what is installed"),
    }
}

fn from_paths(kernel: &Path, modules: &Path) -> Result<Parts, InstallError> {
    let bytes = fs::read(kernel).map_err(io_error("read", kernel))?;
    assemble(kernel, bytes, modules)
}

fn assemble(path: &Path, kernel: Vec<u8>, modules: &Path) -> Result<Parts, InstallError> {
    let image = BootImage::from_file(kernel)
        .map_err(|source| InstallError::BootImage { path: path.to_owned(), source })?;
    let BootImage { file_name, version, bytes } = image;
    let signatures = Signatures::of_kernel(path.parent(), modules, &version);
    let plan = Library::open(modules)
        .and_then(|library| library.plan(&version, signatures))
        .map_err(|source| InstallError::Modules { version: version.clone(), source })?;
    Ok(Parts {
        version,
        kernel_file: file_name.to_owned(),
        kernel: bytes,
        modules: plan.modules,
        has_vsock: plan.has_vsock,
        has_erofs: plan.has_erofs,
        source_sha256: None,
    })
}

/// The parts of what is installed and was verified.
fn installed_parts(dir: &Path, manifest: &Manifest) -> Result<Parts, InstallError> {
    let read = |record: &FileRecord| {
        let path = dir.join(&record.file);
        fs::read(&path).map_err(io_error("read", &path))
    };
    let path = dir.join(&manifest.initramfs.file);
    let modules = initramfs::modules_of(&read(&manifest.initramfs)?)
        .ok_or(InstallError::NotInstalled { source: LoadError::Initramfs { path } })?;
    Ok(Parts {
        version: manifest.version.clone(),
        kernel_file: manifest.kernel.file.clone(),
        kernel: read(&manifest.kernel)?,
        modules,
        has_vsock: manifest.has_vsock,
        has_erofs: manifest.has_erofs,
        source_sha256: manifest.source_sha256.clone(),
    })
}

/// Writes a whole new directory and exchanges it for the old one.
fn replace(
    store_dir: &Path,
    parts: &Parts,
    initramfs: &[u8],
    manifest: &Manifest,
) -> Result<(), InstallError> {
    sweep(store_dir);
    let staged = tempfile::Builder::new()
        .prefix(STAGING_PREFIX)
        .tempdir_in(store_dir)
        .map_err(io_error("create a directory in", store_dir))?;
    let json = serde_json::to_vec_pretty(manifest).expect("a manifest is always JSON");
    for (name, bytes) in [
        (parts.kernel_file.as_str(), parts.kernel.as_slice()),
        (INITRAMFS, initramfs),
        (MANIFEST, &json),
    ] {
        let path = staged.path().join(name);
        atomic::write(&path, 0o644, bytes).map_err(io_error("write", &path))?;
    }
    let dir = store_dir.join(DIRECTORY);
    swap(staged.path(), &dir).map_err(io_error("replace", &dir))?;
    atomic::sync_dir(store_dir).map_err(io_error("sync", store_dir))
    // What `staged` names now is the old directory, or nothing; dropping it removes it.
}

/// Gives `staged` the name `dir`, and `staged`'s name to what had it.
fn swap(staged: &Path, dir: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    match renameat_with(CWD, staged, CWD, dir, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => fs::rename(staged, dir),
        // A file system that cannot exchange: for a moment there is no kernel, and a crash then needs another `init`.
        Err(Errno::INVAL | Errno::NOSYS) => {
            let aside = staged.with_extension("old");
            fs::rename(dir, &aside)?;
            fs::rename(staged, dir)?;
            fs::rename(&aside, staged)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes what a killed installation left; the lock says that nobody else is at it.
fn sweep(store_dir: &Path) {
    for entry in fs::read_dir(store_dir).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(STAGING_PREFIX.as_bytes()) {
            // What stays costs disk space only, and is tried again next time.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn lock(store_dir: &Path) -> Result<File, InstallError> {
    let dir = store_dir.join("locks");
    atomic::ensure_dir(&dir).map_err(io_error("create", &dir))?;
    // No VM's id begins with `store`, so nobody takes this for the lock of a VM that is gone.
    let path = dir.join("store-kernel.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|errno| io_error("lock", &path)(errno.into()))?;
    Ok(file)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { action, path, source }
}

const INITRAMFS: &str = "initramfs.cpio";
/// Prefix of directories that exist only while an installation runs.
pub(super) const STAGING_PREFIX: &str = ".kernel-";
