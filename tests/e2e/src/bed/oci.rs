//! Container images, made by `umoci` of what is there, in OCI layouts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::tool;

/// Moves whenever the images change, so that old ones are made anew.
const EDITION: &str = "3";

/// The name of the small image in its layout.
pub const TAG: &str = "latest";

/// Makes `<dir>/busybox.oci` of the root file system: three layers, the second and third of which change, hide, rename and
/// link what is below, and a configuration.
pub(super) fn busybox(dir: &Path, rootfs: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let layout = dir.join("busybox.oci");
    if made(&layout) {
        return Ok(layout);
    }
    say("making a container image of busybox");
    let bundle = begin(&layout)?;
    copy_into(rootfs, &bundle)?;
    repack(&layout, &bundle)?;

    let root = bundle.join("rootfs");
    fs::write(root.join("srv/lower"), "lower\n")?;
    fs::create_dir_all(root.join("srv/opaque"))?;
    fs::write(root.join("srv/opaque/hidden"), "hidden\n")?;
    fs::write(root.join("srv/renamed"), "moved\n")?;
    fs::set_permissions(root.join("srv/lower"), fs::Permissions::from_mode(0o4755))?;
    repack(&layout, &bundle)?;

    fs::remove_dir_all(root.join("srv/opaque"))?;
    fs::create_dir(root.join("srv/opaque"))?;
    fs::write(root.join("srv/opaque/shown"), "shown\n")?;
    fs::rename(root.join("srv/renamed"), root.join("srv/new-name"))?;
    fs::hard_link(root.join("srv/lower"), root.join("srv/linked"))?;
    symlink("/srv/lower", root.join("srv/pointer"))?;
    fs::remove_file(root.join("usr/bin/env"))?;
    repack(&layout, &bundle)?;
    configure(
        &layout,
        &[
            "--config.user=alice",
            "--config.workingdir=/srv",
            "--config.env=GREETING=hello from the image",
            "--config.env=PATH=/bin:/usr/bin",
            "--config.entrypoint=/bin/sh",
            "--config.entrypoint=-c",
            "--config.cmd=echo $GREETING; id -un; pwd",
            "--config.exposedports=80/tcp",
        ],
    )?;
    finish(&layout, &bundle)
}

/// Makes `<dir>/debian.oci`: a Debian system of over 100 MB by `mmdebstrap`, in four layers.
pub(super) fn debian(dir: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let layout = dir.join("debian.oci");
    if made(&layout) {
        return Ok(layout);
    }
    say("making a container image of Debian: this takes some minutes");
    let bundle = begin(&layout)?;
    let root = bundle.join("rootfs");
    let tar = dir.join("debian.tar");
    if !tar.is_file() {
        let part = dir.join("debian.part.tar");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=important", "bookworm"]).arg(&part);
        tool(mmdebstrap.args(apt_sources()))?;
        fs::rename(&part, &tar)?;
    }
    let unpack = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-x", "-f"];
    tool(Command::new("tar").args(unpack).arg(&tar).arg("-C").arg(&root))?;
    repack(&layout, &bundle)?;
    // What later layers take away, move and link, and at last put back.
    fs::rename(root.join("usr/share/doc"), root.join("usr/share/doc.away"))?;
    fs::remove_dir_all(root.join("usr/share/locale"))?;
    repack(&layout, &bundle)?;
    fs::rename(root.join("usr/share/doc.away"), root.join("usr/share/doc"))?;
    fs::hard_link(root.join("usr/bin/dpkg"), root.join("usr/bin/dpkg.linked"))?;
    repack(&layout, &bundle)?;
    fs::remove_file(root.join("usr/bin/dpkg.linked"))?;
    let locale = ["-x", "-f"];
    tool(
        Command::new("tar").args(locale).arg(&tar).arg("-C").arg(&root).arg("./usr/share/locale"),
    )?;
    repack(&layout, &bundle)?;
    configure(&layout, &["--config.cmd=/bin/bash"])?;
    finish(&layout, &bundle)
}

/// Where this machine's packages come from; the default mirror without it.
fn apt_sources() -> Vec<PathBuf> {
    let known = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    known.map(PathBuf::from).into_iter().find(|path| path.is_file()).into_iter().collect()
}

fn made(layout: &Path) -> bool {
    fs::read_to_string(layout.join("edition")).is_ok_and(|edition| edition == EDITION)
}

/// A new layout with an empty image, unpacked into the bundle that is returned.
fn begin(layout: &Path) -> Result<PathBuf> {
    let bundle = layout.with_extension("bundle");
    for path in [layout, &bundle] {
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    tool(Command::new("umoci").arg("init").arg("--layout").arg(layout))?;
    tool(Command::new("umoci").arg("new").arg("--image").arg(image(layout)))?;
    let rootless = (!rustix::process::geteuid().is_root()).then_some("--rootless");
    let mut unpack = Command::new("umoci");
    unpack.arg("unpack").args(rootless).arg("--image").arg(image(layout)).arg(&bundle);
    tool(&mut unpack)?;
    Ok(bundle)
}

fn copy_into(rootfs: &Path, bundle: &Path) -> Result<()> {
    let from = rootfs.join(".");
    tool(Command::new("cp").arg("-a").arg(from).arg(bundle.join("rootfs"))).map(drop)
}

fn repack(layout: &Path, bundle: &Path) -> Result<()> {
    let image = image(layout);
    let mut command = Command::new("umoci");
    command.arg("repack").arg("--refresh-bundle").arg("--image").arg(image);
    tool(command.arg(bundle)).map(drop)
}

fn configure(layout: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new("umoci");
    tool(command.arg("config").arg("--image").arg(image(layout)).args(options)).map(drop)
}

fn finish(layout: &Path, bundle: &Path) -> Result<PathBuf> {
    tool(Command::new("umoci").arg("gc").arg("--layout").arg(layout))?;
    fs::remove_dir_all(bundle)?;
    fs::write(layout.join("edition"), EDITION)?;
    Ok(layout.to_owned())
}

fn image(layout: &Path) -> String {
    format!("{}:{TAG}", layout.display())
}
