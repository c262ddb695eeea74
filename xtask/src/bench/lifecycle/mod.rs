//! What does it cost to make a VM, and to start one?
//!
//! `create` is the whole command, from an image that storage knows already, in milliseconds; its disk is counted in
//! blocks. `start` is the whole command, which returns when the agent answers. It is set against the same QEMU with the
//! same machine, processor, kernel, modules and mounts, booted by a shell script until that prints a line; the two take
//! turns. Left out: `init`, and the first `create` from a tar archive, which makes the base.

mod bare;

use anyhow::Result;
use bandsox_e2e::{Bed, Storage, Vm};

use super::guest::{timed, used_bytes};
use super::report::{Bar, Report};
use super::statistics::median;
use bare::Bare;

const CREATES: u32 = 21;
const STARTS: u32 = 7;

pub(super) fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let storage = Storage::new();
    create(&storage, bed, report);
    start(&storage, report)
}

fn create(storage: &Storage, bed: &Bed, report: &mut Report) {
    for (form, image) in [("ext4", bed.ext4()), ("tar", bed.tar())] {
        let one = || storage.bandsox(&["create"]).arg(&image);
        // Afterwards the image is known, and so is the template of the disk.
        one().ok();
        let before = used_bytes(storage.root());
        let times: Vec<_> = (0..CREATES).map(|_| timed(one()) * 1e3).collect();
        let disk = (used_bytes(storage.root()) - before) / f64::from(CREATES);
        report.add(format!("create from {form}, cached"), median(&times), "ms", Bar::AtMost(50.0));
        report.add(
            format!("create from {form}: new disk"),
            disk / 1024.0,
            "KiB",
            Bar::AtMost(1023.0),
        );
    }
}

fn start(storage: &Storage, report: &mut Report) -> Result<()> {
    let vm = storage.create("start");
    vm.start();
    let bare = Bare::like(&vm, storage)?;
    vm.run("stop", &["--timeout", "0"]).ok();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        ours.push(timed(vm.run("start", &[])));
        kill(&vm);
        theirs.push(bare.boot()?);
    }
    let ratios: Vec<_> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    report.add("start until the agent answers", median(&ours), "s", Bar::None);
    report.add("the same booted by a minimal script", median(&theirs), "s", Bar::None);
    report.add("start ÷ minimal script", median(&ratios), "", Bar::AtMost(1.3));
    Ok(())
}

fn kill(vm: &Vm<'_>) {
    vm.run("stop", &["--timeout", "0"]).ok();
}
