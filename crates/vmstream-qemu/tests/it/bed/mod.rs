//! Real QEMUs and a guest for them: fetched and made on first use, kept under `target/testbed`.

mod initramfs;
mod pair;
pub(crate) mod qmp;
mod stream;
mod tee;
mod vm;

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub(crate) use pair::Pair;
pub(crate) use stream::loads;
pub(crate) use tee::Tee;
pub(crate) use vm::{Machine, Vm};

/// A QEMU that can be run.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    pub(crate) program: PathBuf,
    /// Where its data is, if it is not installed.
    pub(crate) data: Option<PathBuf>,
    pub(crate) version: &'static str,
}

impl Qemu {
    /// It, told where its data is.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(data) = &self.data {
            command.arg("-L").arg(data).args(["-L", "/usr/share/seabios"]);
            command.env("QEMU_MODULE_DIR", data.join("../../lib/x86_64-linux-gnu/qemu"));
        }
        command
    }
}

/// What tests run.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Debian 12's own.
    pub(crate) old: Qemu,
    /// From its backports.
    pub(crate) new: Qemu,
}

impl Bed {
    pub(crate) fn get() -> &'static Self {
        static BED: OnceLock<Bed> = OnceLock::new();
        BED.get_or_init(|| {
            let dir = testbed();
            fs::create_dir_all(&dir).expect("the test bed's directory can be made");
            let lock = File::create(dir.join("qemu.lock")).expect("a lock file can be made");
            lock.lock().expect("the lock can be had");
            let kernel = unpack_kernel(&dir);
            Self {
                initramfs: initramfs::make(&dir, &kernel),
                kernel: kernel.join("vmlinuz"),
                old: Qemu { program: "qemu-system-x86_64".into(), data: None, version: "7.2" },
                new: fetch_new(&dir),
            }
        })
    }
}

/// A directory of one test, in memory: postcopy takes guest memory from nowhere else.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory can be made")
}

fn testbed() -> PathBuf {
    // Crates at several depths have this module.
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = above.find(|dir| dir.join("Cargo.lock").exists()).expect("a work tree");
    let target = env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| root.join("target"), PathBuf::from).join("testbed")
}

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn packages_in(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory can be read").flatten();
    let of_prefix = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.extension() == Some(OsStr::new("deb")) && name.starts_with(prefix)
    };
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(of_prefix).collect();
    found.sort();
    found
}

/// The cloud kernel's package, the same file that the end-to-end tests use, taken apart.
fn unpack_kernel(dir: &Path) -> PathBuf {
    let kernel = dir.join("stream-kernel");
    if kernel.join("vmlinuz").exists() {
        return kernel;
    }
    if packages_in(dir, "linux-image-").is_empty() {
        let listed = run(Command::new("apt-cache").args([
            "depends",
            "--important",
            "linux-image-cloud-amd64",
        ]));
        let listed = String::from_utf8(listed).expect("text");
        let package = listed.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let package = package.expect("apt knows the kernel");
        run(Command::new("apt-get").args(["download", "-q", package]).current_dir(dir));
    }
    let package = packages_in(dir, "linux-image-").pop().expect("the package is there");
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&kernel));
    let boot = fs::read_dir(kernel.join("boot")).expect("boot is there").flatten();
    let image =
        boot.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("vmlinuz"));
    fs::rename(image.expect("a kernel"), kernel.join("vmlinuz")).expect("it can be renamed");
    kernel
}

/// QEMU 10 beside the installed one: its packages are taken apart, not installed.
fn fetch_new(dir: &Path) -> Qemu {
    let root = dir.join("qemu-10");
    let program = root.join("usr/bin/qemu-system-x86_64");
    if !program.exists() {
        let apt = dir.join("qemu-10.apt");
        fs::create_dir_all(apt.join("lists/partial")).expect("directories can be made");
        fs::write(
            apt.join("sources.list"),
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
             http://deb.debian.org/debian bookworm-backports main\n",
        )
        .expect("a file can be written");
        let apt_get = |words: &[&str]| {
            let mut command = Command::new("apt-get");
            let option = |name: &str, value: &Path| format!("{name}={}", value.display());
            command.args(["-q", "-o", &option("Dir::Etc::sourcelist", &apt.join("sources.list"))]);
            command.args(["-o", "Dir::Etc::sourceparts=/dev/null"]);
            command.args(["-o", &option("Dir::State::lists", &apt.join("lists"))]);
            run(command.args(words).current_dir(&apt));
        };
        apt_get(&["update"]);
        let wanted = ["qemu-system-x86", "qemu-system-common", "qemu-system-data"]
            .map(|name| format!("{name}/bookworm-backports"));
        apt_get(&["download", &wanted[0], &wanted[1], &wanted[2]]);
        for package in packages_in(&apt, "qemu-") {
            run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root));
        }
    }
    Qemu { program, data: Some(root.join("usr/share/qemu")), version: "10.0" }
}
