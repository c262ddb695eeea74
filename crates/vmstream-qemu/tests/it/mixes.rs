//! Devices of all kinds, in machines that never start: how much of their state is understood.

use vmstream_qemu::Reader;

use crate::bed::{self, Bed, Machine, Qemu, Vm};
use crate::captures::opaque;
use crate::stream::Contents;

const MIXES: [(&str, Machine, &[&str]); 9] = [
    (
        "nics",
        Machine::Pc,
        &[
            "-device e1000",
            "-device rtl8139",
            "-device pcnet",
            "-device vmxnet3",
            "-device i82551",
            "-device ne2k_pci",
        ],
    ),
    (
        "pcie nics",
        Machine::Q35,
        &["-device e1000e", "-device tulip", "-device virtio-net-pci,packed=on"],
    ),
    (
        "scsi",
        Machine::Q35,
        &[
            "-device lsi53c895a",
            "-device megasas",
            "-device mptsas1068",
            "-device pvscsi",
            "-drive if=none,id=more,driver=null-co,read-zeroes=on",
            "-device scsi-hd,drive=more",
        ],
    ),
    (
        "usb",
        Machine::Q35,
        &[
            "-device nec-usb-xhci,id=usb",
            "-device usb-kbd,bus=usb.0",
            "-device usb-tablet,bus=usb.0",
            "-device piix3-usb-uhci",
            "-device usb-ehci",
            "-device usb-hub,bus=usb.0",
        ],
    ),
    (
        "sound",
        Machine::Pc,
        &[
            "-audiodev none,id=audio",
            "-device AC97,audiodev=audio",
            "-device ES1370,audiodev=audio",
            "-device sb16,audiodev=audio",
            "-device intel-hda",
            "-device hda-duplex,audiodev=audio",
        ],
    ),
    (
        "virtio",
        Machine::Q35,
        &[
            "-device virtio-iommu-pci",
            "-device virtio-tablet-pci",
            "-device virtio-mouse-pci",
            "-device virtio-blk-pci,drive=more,num-queues=4",
            "-drive if=none,id=more,driver=null-co,read-zeroes=on",
        ],
    ),
    ("ipmi", Machine::Q35, &["-device ipmi-bmc-sim,id=bmc", "-device isa-ipmi-kcs,bmc=bmc"]),
    (
        "bridges",
        Machine::Q35,
        &[
            "-device pcie-pci-bridge,id=pp",
            "-device pci-bridge,chassis_nr=7,bus=pp,addr=1",
            "-device ioh3420,chassis=9",
            "-device x3130-upstream,id=up",
            "-device xio3130-downstream,bus=up,chassis=11",
            "-device edu",
            "-device i6300esb",
        ],
    ),
    (
        "display",
        Machine::Q35,
        &[
            "-device VGA",
            "-device virtio-gpu-pci,max_outputs=2",
            "-device virtio-9p-pci,fsdev=fs,mount_tag=t",
            "-fsdev local,id=fs,path=/tmp,security_model=none",
        ],
    ),
];

fn mixes_of(qemu: &Qemu) {
    let mut left = Vec::new();
    for (name, machine, devices) in MIXES {
        let dir = bed::directory();
        let mut vm = Vm::paused(qemu, machine, dir.path(), devices);
        let bytes = vm.save();
        let contents = Contents::of(&Reader::new(), &mut bytes.as_slice()).expect("valid");
        eprintln!(
            "{} {name}: {} sections, {:?}",
            qemu.version,
            contents.devices.len(),
            contents.share
        );

        assert!(contents.written == bytes, "{name} is written as it was read");
        left.extend(opaque(&contents));
    }
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn devices_of_all_kinds_of_7_2() {
    mixes_of(&Bed::get().old);
}

#[test]
fn devices_of_all_kinds_of_10_0() {
    mixes_of(&Bed::get().new);
}
