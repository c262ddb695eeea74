//! Installing a real kernel.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bandsox_image::kernel::{Force, Installed, Kernel, LoadError, Source, install};

use crate::artifacts::kernel_deb;

fn deb() -> Source {
    Source::Deb { file: kernel_deb() }
}

fn install_deb(store: &Path) -> Installed {
    install(store, &deb(), Force::No, b"agent").expect("installs")
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("stats").ino()
}

#[test]
fn a_package_is_installed_once_and_repaired_when_damaged() {
    let store = tempfile::tempdir().expect("a temporary directory");

    let first = install_deb(store.path());
    assert!(first.changed);
    assert!(first.kernel.has_vsock && first.kernel.has_erofs);
    assert!(first.kernel.version.ends_with("cloud-amd64"), "{}", first.kernel.version);
    assert_eq!(first.kernel.kernel.file_name().expect("a name"), "vmlinux");
    let vmlinux = inode(&first.kernel.kernel);

    let second = install_deb(store.path());
    assert_eq!(second, Installed { changed: false, kernel: first.kernel.clone() });
    assert_eq!(inode(&second.kernel.kernel), vmlinux);

    let whole = fs::read(&first.kernel.kernel).expect("reads");
    let mut damaged = whole.clone();
    damaged[1_000_000] ^= 1;
    fs::write(&first.kernel.kernel, &damaged).expect("damages");
    assert!(install_deb(store.path()).changed);
    assert!(fs::read(&first.kernel.kernel).expect("reads") == whole);

    fs::remove_file(&first.kernel.initramfs).expect("removes");
    assert!(matches!(Kernel::load(store.path()), Err(LoadError::Size { found: 0, .. })));
    let manifest = store.path().join("kernel/manifest.json");
    fs::write(&manifest, b"{").expect("damages");
    assert!(matches!(Kernel::load(store.path()), Err(LoadError::Manifest { .. })));
    assert!(install_deb(store.path()).changed);
    assert!(!install_deb(store.path()).changed);

    let forced = install(store.path(), &deb(), Force::Yes, b"agent").expect("installs");
    assert!(forced.changed);
    assert_ne!(inode(&forced.kernel.kernel), vmlinux);
    let left: Vec<_> =
        fs::read_dir(store.path()).expect("lists").map(|e| e.expect("lists").file_name()).collect();
    assert_eq!(left.len(), 2, "kernel and locks, nothing else: {left:?}");
}

#[test]
fn a_new_agent_goes_in_without_the_package() {
    let store = tempfile::tempdir().expect("a temporary directory");
    let first = install_deb(store.path());

    let renewed =
        install(store.path(), &Source::Installed, Force::No, b"newer agent").expect("installs");

    assert!(renewed.changed);
    assert_ne!(renewed.kernel.agent_sha256, first.kernel.agent_sha256);
    assert_eq!(listing(&renewed.kernel.initramfs), listing(&first.kernel.initramfs));
    assert!(
        !install(store.path(), &Source::Installed, Force::No, b"newer agent")
            .expect("installs")
            .changed
    );
}

#[test]
fn kernel_and_modules_by_path_give_the_same_files_as_their_package() {
    let store = tempfile::tempdir().expect("a temporary directory");
    let unpacked = tempfile::tempdir().expect("a temporary directory");
    let status = Command::new("dpkg")
        .arg("-x")
        .arg(kernel_deb())
        .arg(unpacked.path())
        .status()
        .expect("dpkg runs");
    assert!(status.success());
    let only = |dir: PathBuf, prefix: &str| {
        let names = fs::read_dir(&dir).expect("lists").map(|entry| entry.expect("lists").path());
        let is_it = |path: &PathBuf| {
            path.file_name().expect("a name").to_string_lossy().starts_with(prefix)
        };
        names.into_iter().find(is_it).expect("is there")
    };
    let from_deb = install_deb(store.path()).kernel;
    let initramfs = fs::read(&from_deb.initramfs).expect("reads");

    let source = Source::KernelAndModules {
        kernel: only(unpacked.path().join("boot"), "vmlinuz-"),
        modules: only(unpacked.path().join("lib/modules"), "6"),
    };
    let by_path = install(store.path(), &source, Force::Yes, b"agent").expect("installs").kernel;

    assert_eq!(by_path, from_deb);
    assert!(fs::read(&by_path.initramfs).expect("reads") == initramfs);
    assert!(!install(store.path(), &source, Force::No, b"agent").expect("installs").changed);
}

#[test]
fn the_initramfs_holds_the_modules_in_an_order_in_which_they_load() {
    let store = tempfile::tempdir().expect("a temporary directory");

    let kernel = install_deb(store.path()).kernel;

    let names = listing(&kernel.initramfs);
    assert!(names.contains(&"init".to_owned()));
    assert!(names.contains(&"etc/bandsox/modules.json".to_owned()));
    let at = |module: &str| {
        let file = format!("lib/modules/{}/{module}.ko", kernel.version);
        names
            .iter()
            .position(|name| *name == file)
            .unwrap_or_else(|| panic!("no {module} in {names:?}"))
    };
    assert!(at("virtio_ring") < at("virtio_pci"));
    assert!(at("virtio") < at("virtio_pci"));
    assert!(at("virtio_pci") < at("erofs"));
    assert!(at("vsock") < at("vmw_vsock_virtio_transport_common"));
    assert!(at("vmw_vsock_virtio_transport_common") < at("vmw_vsock_virtio_transport"));
    assert!(at("vmw_vsock_virtio_transport") < at("virtio_console"));
    assert!(!names.iter().any(|name| name.contains("ext4")), "ext4 is built in");
}

fn listing(initramfs: &Path) -> Vec<String> {
    let file = fs::File::open(initramfs).expect("opens");
    let output = Command::new("cpio")
        .args(["-i", "-t", "--quiet"])
        .stdin(Stdio::from(file))
        .output()
        .expect("cpio runs");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
