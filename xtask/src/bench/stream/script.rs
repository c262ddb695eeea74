//! QEMU's own script that takes a stream apart, out of Debian's sources.
//!
//! It is under another license than this repository: it is fetched and run, and kept nowhere but in the test bed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::run;

const NAME: &str = "analyze-migration.py";
const SUITES: [(&str, &str); 2] = [("7.2", "bookworm"), ("10.0", "bookworm-backports")];

/// The script that came with a version.
pub(super) fn of(version: &str) -> Result<PathBuf> {
    let suite = SUITES.iter().find(|(of, _)| *of == version).context("its suite is known")?.1;
    let dir = super::target().join("testbed").join(format!("qemu-script-{version}"));
    let script = dir.join(NAME);
    if script.exists() {
        return Ok(script);
    }
    fs::create_dir_all(dir.join("lists/partial"))?;
    let sources = dir.join("sources.list");
    let keys = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(&sources, format!("deb-src [{keys}] http://deb.debian.org/debian {suite} main\n"))?;
    apt(&dir, &["update"])?;
    let package = format!("qemu/{suite}");
    apt(&dir, &["source", "--download-only", "--tar-only", &package])?;
    let tarball = fs::read_dir(&dir)?.flatten().map(|entry| entry.path());
    let tarball = tarball.into_iter().find(|path| path.to_string_lossy().contains(".orig.tar"));
    let tarball = tarball.context("the source package holds no archive")?;
    let wanted = format!("*/scripts/{NAME}");
    run(Command::new("tar")
        .args(["--wildcards", "--strip-components=2", "-xf"])
        .arg(&tarball)
        .arg("-C")
        .arg(&dir)
        .arg(wanted))?;
    fs::remove_file(tarball)?;
    Ok(script)
}

fn apt(dir: &Path, words: &[&str]) -> Result<()> {
    let option = |name: &str, value: &Path| format!("{name}={}", value.display());
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "Dir::Etc::sourceparts=/dev/null", "-o", "APT::Sandbox::User="]);
    command.args(["-o", &option("Dir::Etc::sourcelist", &dir.join("sources.list"))]);
    command.args(["-o", &option("Dir::State::lists", &dir.join("lists"))]);
    run(command.args(words).current_dir(dir))
}
