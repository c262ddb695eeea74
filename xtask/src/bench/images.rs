//! What does it take to make VMs of a container image?
//!
//! The image is a Debian system of over 100 MB in four layers, in a real registry on loopback. Set against each other, in
//! turns, each time from nothing: `bandsox image pull`, whole command, which ends with a base image that is synced; and
//! `skopeo copy` into a layout followed by `umoci unpack` of it, with nobody syncing. Times are in seconds. Then VMs of the
//! image: the whole command `create`, in milliseconds, and what each takes on the disk. Left out: the network.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bandsox_e2e::{Bed, IMAGE_TAG, Registry, Storage};
use serde_json::Value;

use super::guest::{seconds, timed, used_bytes};
use super::report::{Bar, Report};
use super::statistics::median;

const ROUNDS: usize = 5;
const VMS: u32 = 100;

pub(super) fn run(_bed: &Bed, report: &mut Report) -> Result<()> {
    let registry = Registry::start();
    let name = registry.put(&Bed::debian_image(), "debian:bench");
    let (mut ours, mut copies, mut unpacks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let storage = Storage::new();
        ours.push(timed(storage.bandsox(&["image", "pull", &name])));
        let scratch = tempfile::tempdir()?;
        let (copy, unpack) = theirs(&name, scratch.path())?;
        copies.push(copy);
        unpacks.push(unpack);
    }
    let theirs = copies.iter().zip(&unpacks).map(|(copy, unpack)| copy + unpack);
    let ratios: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    report.add("pull and build", median(&ours), "s", Bar::None);
    report.add("skopeo copy", median(&copies), "s", Bar::None);
    report.add("umoci unpack", median(&unpacks), "s", Bar::None);
    report.add("pull and build ÷ skopeo + umoci", median(&ratios), "", Bar::AtMost(1.0));
    create(&name, report)
}

/// The same image, for use by other programs.
fn theirs(name: &str, dir: &Path) -> Result<(f64, f64)> {
    let layout = dir.join("layout").display().to_string();
    let bundle = dir.join("bundle").display().to_string();
    let from = format!("docker://{name}");
    let to = format!("oci:{layout}:{IMAGE_TAG}");
    let copy = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false", &from, &to];
    let image = format!("{layout}:{IMAGE_TAG}");
    Ok((tool("skopeo", &copy)?, tool("umoci", &["unpack", "--image", &image, &bundle])?))
}

fn tool(program: &str, words: &[&str]) -> Result<f64> {
    let mut result = Ok(false);
    let took = seconds(|| {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        result = command.status().map(|status| status.success());
    });
    let succeeded = result.with_context(|| format!("cannot run {program}"))?;
    ensure!(succeeded, "{program} {} failed", words.join(" "));
    Ok(took)
}

fn create(name: &str, report: &mut Report) -> Result<()> {
    let storage = Storage::new();
    let one = || storage.bandsox(&["create", name]);
    one().ok();
    let before = used_bytes(storage.root());
    let times: Vec<_> = (1..VMS).map(|_| timed(one()) * 1e3).collect();
    let disk = (used_bytes(storage.root()) - before) / f64::from(VMS - 1);
    let rows = storage.bandsox(&["df", "-o", "json"]).output().ok().json();
    let rows = rows.as_array().context("df prints a list")?;
    let images = rows.iter().find(|row| row["kind"] == "images").context("df knows images")?;
    let vms = images["items"][0]["vms"].as_array().map_or(0, Vec::len);
    report.add("second create", median(&times), "ms", Bar::AtMost(50.0));
    report.add("second create: new disk", disk / 1024.0, "KiB", Bar::AtMost(1023.0));
    report.add("VMs of one image", vms as f64, "VMs", Bar::AtLeast(f64::from(VMS)));
    let bases = images["count"].as_f64().unwrap_or_default();
    report.add("bases stored for them", bases, "bases", Bar::AtMost(1.0));
    report.add("their size", bytes(&images["bytes"]) / 1e6, "MB", Bar::None);
    Ok(())
}

fn bytes(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}
