//! QEMU's command line, as a pure function.

use std::ffi::OsString;
use std::path::PathBuf;

use bandsox_engine::Accelerator;

use crate::cpu;

/// Everything that the command line depends on. Numbers are descriptors in QEMU's process.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// How guest code is executed.
    pub accelerator: Accelerator,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Size of guest RAM in bytes.
    pub ram_bytes: u64,
    /// The memfd that is guest RAM.
    pub ram: i32,
    /// Folders to search for firmware.
    pub firmware: Vec<PathBuf>,
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initial RAM file system.
    pub initrd: PathBuf,
    /// Kernel command line.
    pub cmdline: String,
    /// The base disk, opened read-only.
    pub base: i32,
    /// The overlay disk, opened read-write.
    pub overlay: i32,
    /// The control connection.
    pub qmp: i32,
    /// First UART.
    pub console: i32,
    /// Second UART.
    pub agent_uart: i32,
    /// virtio-serial port.
    pub agent_port: i32,
    /// vhost-user connection of the vsock device, if there is one.
    pub vsock: Option<i32>,
}

/// Id of the vsock device.
pub(crate) const VSOCK_DEVICE: &str = "vsock";
/// Id of the root port that the vsock device is plugged into.
pub(crate) const VSOCK_PORT: &str = "rp0";

/// The command line for `wiring`, without the program's name.
///
/// Every PCI function has a fixed address: a saved machine must be loaded into the same one.
#[must_use]
pub fn arguments(wiring: &Wiring) -> Vec<OsString> {
    let mut line = CommandLine(Vec::new());
    machine(&mut line, wiring);
    kernel(&mut line, wiring);
    disk(&mut line, &DiskAt { name: "base", slot: 2, fdset: 1, fd: wiring.base, writable: false });
    disk(
        &mut line,
        &DiskAt { name: "overlay", slot: 3, fdset: 2, fd: wiring.overlay, writable: true },
    );
    serial(&mut line, wiring);
    vsock(&mut line, wiring);
    line.0
}

struct CommandLine(Vec<OsString>);

impl CommandLine {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }
}

fn machine(line: &mut CommandLine, wiring: &Wiring) {
    let Wiring { accelerator, vcpus, ram_bytes, ram, qmp, .. } = wiring;
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.option("-display", "none");
    line.option("-msg", "timestamp=off");
    line.option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    for folder in &wiring.firmware {
        line.option("-L", folder);
    }
    line.option("-machine", "pc-q35-7.2,sata=off,smbus=off,usb=off,memory-backend=ram");
    line.option(
        "-accel",
        match accelerator {
            Accelerator::Tcg => "tcg,thread=multi",
            Accelerator::Kvm => "kvm",
        },
    );
    line.option("-cpu", cpu::cpu_model(*accelerator));
    line.option("-smp", format!("cpus={vcpus},sockets=1,cores={vcpus},threads=1"));
    line.option("-m", format!("size={}k", ram_bytes >> 10));
    line.option(
        "-object",
        format!(
            "memory-backend-file,id=ram,size={ram_bytes},share=on,mem-path=/proc/self/fd/{ram}"
        ),
    );
    line.option("-rtc", "base=utc,clock=host");
    line.option("-chardev", format!("socket,id=qmp,fd={qmp}"));
    line.option("-mon", "chardev=qmp,mode=control");
    // The guest's reset ends the process, and nothing runs before `cont`.
    line.flag("-no-reboot");
    line.flag("-S");
}

fn kernel(line: &mut CommandLine, wiring: &Wiring) {
    line.option("-kernel", &wiring.kernel);
    line.option("-initrd", &wiring.initrd);
    line.option("-append", &wiring.cmdline);
}

struct DiskAt {
    name: &'static str,
    slot: u8,
    fdset: u8,
    fd: i32,
    writable: bool,
}

/// A raw disk. The format is said, never probed: a guest must not be able to turn its disk into
/// an image that names files of the host.
fn disk(line: &mut CommandLine, disk: &DiskAt) {
    let DiskAt { name, slot, fdset, fd, writable } = disk;
    let read_only = if *writable { "off" } else { "on" };
    line.option("-add-fd", format!("fd={fd},set={fdset}"));
    line.option(
        "-blockdev",
        format!(
            "driver=file,node-name={name}-file,filename=/dev/fdset/{fdset},locking=off,\
             read-only={read_only},discard=unmap,aio=threads"
        ),
    );
    line.option(
        "-blockdev",
        format!("driver=raw,node-name={name},file={name}-file,read-only={read_only},discard=unmap"),
    );
    line.option(
        "-device",
        format!(
            "virtio-blk-pci,bus=pcie.0,addr={slot:#x},drive={name},serial={name},\
             disable-legacy=on,num-queues=1"
        ),
    );
}

fn serial(line: &mut CommandLine, wiring: &Wiring) {
    let Wiring { console, agent_uart, agent_port, .. } = wiring;
    line.option("-chardev", format!("socket,id=console,fd={console}"));
    line.option("-device", "isa-serial,chardev=console,index=0");
    line.option("-chardev", format!("socket,id=agent-uart,fd={agent_uart}"));
    line.option("-device", "isa-serial,chardev=agent-uart,index=1");
    line.option("-chardev", format!("socket,id=agent-port,fd={agent_port}"));
    line.option(
        "-device",
        "virtio-serial-pci,id=serial,bus=pcie.0,addr=0x4,disable-legacy=on,max_ports=2",
    );
    line.option(
        "-device",
        "virtserialport,bus=serial.0,nr=1,chardev=agent-port,name=org.bandsox.agent",
    );
    line.option("-device", "pvpanic-pci,bus=pcie.0,addr=0x5");
}

/// The root port is always there, so that a device can be plugged into it later.
fn vsock(line: &mut CommandLine, wiring: &Wiring) {
    line.option(
        "-device",
        format!("pcie-root-port,id={VSOCK_PORT},bus=pcie.0,addr=0x1,chassis=1,slot=1"),
    );
    if let Some(fd) = wiring.vsock {
        line.option("-chardev", format!("socket,id={VSOCK_DEVICE}-0,fd={fd}"));
        line.option(
            "-device",
            format!(
                "vhost-user-vsock-pci,id={VSOCK_DEVICE},bus={VSOCK_PORT},addr=0x0,\
                 chardev={VSOCK_DEVICE}-0"
            ),
        );
    }
}

#[cfg(test)]
mod tests;
