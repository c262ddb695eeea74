//! What does a VM that does nothing take, besides its own RAM, and how many run at once?
//!
//! Counted is `RssAnon` + `RssFile` of the monitor, in MiB: the guest's RAM is shared memory and shows as neither.
//! The engine is QEMU, and is reported, not judged.

use anyhow::Result;
use bandsox_e2e::{Bed, Storage, Vm, descendants};

use super::files::private_kib;
use super::guest::seconds;
use super::report::{Bar, Report};
use super::statistics::median;

const AT_ONCE: u32 = 20;

pub(super) fn run(_bed: &Bed, report: &mut Report) -> Result<()> {
    let storage = Storage::new();
    let vms: Vec<Vm<'_>> =
        (0..AT_ONCE).map(|n| storage.create_with(&format!("vm-{n}"), &["--mem", "256"])).collect();
    let took = seconds(|| {
        let starting: Vec<_> = vms.iter().map(|vm| vm.run("start", &[]).spawn()).collect();
        starting.into_iter().for_each(|start| drop(start.wait()));
    });
    let answers = vms.iter().filter(|vm| vm.exec(&["echo", "here"]).output().stdout == b"here\n");
    let alive: Vec<_> = answers.collect();
    let mib = |process: &bandsox_e2e::Process| private_kib(process) / 1024.0;
    let monitors: Vec<_> = alive.iter().map(|vm| mib(&vm.monitor())).collect();
    let whole: Vec<_> =
        alive.iter().map(|vm| descendants(vm.monitor().pid).iter().map(mib).sum::<f64>()).collect();

    report.add(
        "VMs at once that answer",
        alive.len() as f64,
        "VMs",
        Bar::AtLeast(f64::from(AT_ONCE)),
    );
    report.add("starting them together", took, "s", Bar::None);
    report.add("idle monitor", median(&monitors), "MiB", Bar::AtMost(20.0));
    report.add("idle engine and its jail", median(&whole), "MiB", Bar::None);
    Ok(())
}
