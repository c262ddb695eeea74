//! A root file system of one static program: busybox, its names, and three users.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tool;

/// Moves whenever the contents change, so that an old tree is made anew.
const EDITION: &str = "2";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      alice:x:1000:1000:Alice:/home/alice:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\nnogroup:x:65534:\n";

/// Makes `<dir>/rootfs`, `.ext4` and `.tar`, unless they are there; returns the first.
pub(super) fn make(dir: &Path, peer: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let tree = dir.join("rootfs");
    let stamp = dir.join("rootfs.edition");
    let edition = format!("{EDITION} {}", fs::metadata(peer)?.len());
    if fs::read_to_string(&stamp).is_ok_and(|made| made == edition) {
        return Ok(tree);
    }
    say("making a root file system of busybox");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    fill(&tree, peer).with_context(|| format!("cannot fill {}", tree.display()))?;
    pack(&tree)?;
    fs::write(stamp, edition)?;
    Ok(tree)
}

fn fill(tree: &Path, peer: &Path) -> Result<()> {
    for dir in [
        "bin",
        "dev",
        "etc",
        "home/alice",
        "mnt",
        "proc",
        "root",
        "srv",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
        "var/tmp",
    ] {
        fs::create_dir_all(tree.join(dir))?;
    }
    for sticky in ["tmp", "var/tmp"] {
        fs::set_permissions(tree.join(sticky), fs::Permissions::from_mode(0o1777))?;
    }
    fs::set_permissions(tree.join("root"), fs::Permissions::from_mode(0o700))?;
    fs::write(tree.join("etc/passwd"), PASSWD)?;
    fs::write(tree.join("etc/group"), GROUP)?;
    fs::write(tree.join("etc/os-release"), "ID=bandsox-test\nPRETTY_NAME=\"BandSox test bed\"\n")?;
    fs::copy(peer, tree.join("usr/bin/vsock-peer"))?;
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].map(Path::new);
    let busybox =
        busybox.into_iter().find(|path| path.is_file()).context("busybox-static is missing")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    for applet in String::from_utf8(tool(Command::new(busybox).arg("--list"))?)?.lines() {
        if applet != "busybox" {
            symlink("busybox", tree.join("bin").join(applet))?;
        }
    }
    // Where scripts look for it.
    symlink("../../bin/busybox", tree.join("usr/bin/env"))?;
    Ok(())
}

fn pack(tree: &Path) -> Result<()> {
    let ext4 = tree.with_extension("ext4");
    if ext4.exists() {
        fs::remove_file(&ext4)?;
    }
    fs::File::create(&ext4)?.set_len(64 << 20)?;
    // Its place is in sbin, which an ordinary user's PATH need not have.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    tool(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
            .args([tree, ext4.as_path()])
            .env("PATH", path),
    )?;
    tool(
        Command::new("tar")
            .args(["--owner=0", "--group=0", "--numeric-owner", "-C"])
            .arg(tree)
            .arg("-cf")
            .args([tree.with_extension("tar").as_path(), Path::new(".")]),
    )?;
    Ok(())
}
