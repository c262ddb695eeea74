//! What every test needs and nobody wants to make twice: a kernel, a root file system, a guest-side peer.
//!
//! Each piece is taken from its environment variable if that is set, else from `target/testbed`, where it is made on
//! first use. Several test processes may ask at once: a file lock lets one make it.

mod kernel;
mod oci;
mod peer;
mod rootfs;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

pub use oci::TAG;

/// The artifacts that tests, demo and benchmarks share.
#[derive(Clone, Debug)]
pub struct Bed {
    /// A Debian package that holds a cloud kernel and its modules.
    pub kernel_deb: PathBuf,
    /// A busybox root file system as a directory. `with_extension("ext4")` and `("tar")` are the same as files.
    pub rootfs: PathBuf,
    /// The program under test.
    pub bandsox: PathBuf,
}

impl Bed {
    /// The bed of this test run; made on first use.
    ///
    /// # Panics
    ///
    /// When a piece cannot be made: no test can run then.
    #[must_use]
    pub fn get() -> &'static Self {
        static BED: OnceLock<Bed> = OnceLock::new();
        BED.get_or_init(|| {
            let mut bed = Self::prepare(&|_| ()).expect("the test bed can be made");
            bed.bandsox = program().expect("the program is built");
            bed
        })
    }

    /// Makes what is missing. `say` hears one line before each step that takes a while.
    ///
    /// # Errors
    ///
    /// When a tool is missing or fails; the message names it.
    pub fn prepare(say: &dyn Fn(&str)) -> Result<Self> {
        locked("lock", |dir| {
            let kernel_deb = kernel::find_or_fetch(dir, say)?;
            let rootfs = match env::var_os("BANDSOX_TEST_ROOTFS") {
                Some(given) => PathBuf::from(given),
                None => rootfs::make(dir, &peer::build(say)?, say)?,
            };
            Ok(Self { kernel_deb, rootfs, bandsox: PathBuf::new() })
        })
    }

    /// The root file system as an ext4 image.
    #[must_use]
    pub fn ext4(&self) -> PathBuf {
        self.rootfs.with_extension("ext4")
    }

    /// An OCI layout with an image of the root file system, in three layers and with a configuration.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn busybox_image(&self) -> PathBuf {
        locked(IMAGES_LOCK, |dir| oci::busybox(dir, &self.rootfs, &|_| ()))
            .expect("the image can be made")
    }

    /// An OCI layout with an image of a Debian system, in four layers.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn debian_image() -> PathBuf {
        locked(IMAGES_LOCK, |dir| oci::debian(dir, &|_| ())).expect("the image can be made")
    }

    /// The root file system as a tar archive.
    #[must_use]
    pub fn tar(&self) -> PathBuf {
        self.rootfs.with_extension("tar")
    }
}

/// Images take minutes: whoever needs none does not wait for them.
const IMAGES_LOCK: &str = "images.lock";

/// Makes pieces while no other process does.
fn locked<T>(name: &str, make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let dir = testbed_dir();
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let lock = File::create(dir.join(name))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    make(&dir)
}

/// The root of the work tree that this was built from.
#[must_use]
pub fn workspace_root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).expect("this crate is two levels below the root").to_owned()
    })
}

/// Where the pieces are made.
pub(crate) fn testbed_dir() -> PathBuf {
    target_dir().join("testbed")
}

fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), |dir| workspace_root().join(dir))
}

/// `BANDSOX_TEST_BIN`, else the program beside this test's own binary.
fn program() -> Result<PathBuf> {
    if let Some(given) = env::var_os("BANDSOX_TEST_BIN") {
        return Ok(PathBuf::from(given));
    }
    let me = env::current_exe()?;
    let beside = me.ancestors().skip(1).take(2).map(|dir| dir.join("bandsox"));
    match beside.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("no bandsox beside {}; run `cargo build -p bandsox` first", me.display()),
    }
}

/// Runs a tool to its end and returns what it printed.
fn tool(command: &mut std::process::Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(std::process::Stdio::null()).output().with_context(|| {
        format!("cannot run {name}; is it installed? (cargo xtask test sees to it)")
    })?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {}", output.status, complaint.trim());
    Ok(output.stdout)
}
