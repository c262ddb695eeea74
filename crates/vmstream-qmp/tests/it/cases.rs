//! What people get wrong, and what they may change.

use crate::machine::Edit;

/// One misconfiguration, and the line that it must give.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) source: Edit<'static>,
    pub(crate) destination: Edit<'static>,
    pub(crate) line: &'static str,
}

const fn case(name: &'static str, destination: Edit<'static>, line: &'static str) -> Case {
    Case { name, source: &[], destination, line }
}

const fn from(
    name: &'static str,
    source: Edit<'static>,
    destination: Edit<'static>,
    line: &'static str,
) -> Case {
    Case { name, source, destination, line }
}

/// Misconfigurations, each of which QEMU takes silently, or refuses with other words than these, or on one side only.
pub(crate) const WRONG: &[Case] = &[
    case(
        "a disk more",
        &[
            ("z-drive", "-drive if=none,id=d9,file=other.img,format=raw,file.locking=off"),
            ("z-extra", "-device virtio-blk-pci,drive=d9,addr=9"),
        ],
        "missing-at-source pci.0/09.0#device: destination has \"virtio-blk-pci\" (-device)",
    ),
    case(
        "one vCPU more",
        &[("smp", "-smp 2")],
        "value-differs machine#vcpus: source has 1, destination has 2 (-smp)",
    ),
    from(
        "a shorter queue",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,queue-size=1024")],
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,queue-size=128")],
        "value-differs pci.0/02.0#queue-size: source has 1024, destination has 128 (-device virtio-blk-pci,queue-size=…)",
    ),
    from(
        "a shorter queue that the firmware uses",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,queue-size=256")],
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,queue-size=64")],
        "value-differs pci.0/02.0#queue-size: source has 256, destination has 64 (-device virtio-blk-pci,queue-size=…)",
    ),
    case(
        "receive buffers not merged",
        &[("net", "-device virtio-net-pci,netdev=n0,addr=3,mrg_rxbuf=off")],
        "value-differs pci.0/03.0#mrg_rxbuf: source has true, destination has false (-device virtio-net-pci,mrg_rxbuf=…)",
    ),
    case(
        "a lesser CPU",
        &[("cpu", "-cpu qemu64")],
        "value-differs cpu/0#device: source has \"max\", destination has \"qemu64\" (-cpu)",
    ),
    case(
        "no event index",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,event_idx=off")],
        "value-differs pci.0/02.0#event_idx: source has true, destination has false (-device virtio-blk-pci,event_idx=…)",
    ),
    case(
        "packed rings",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,packed=on")],
        "value-differs pci.0/02.0#packed: source has false, destination has true (-device virtio-blk-pci,packed=…)",
    ),
    case(
        "no discard",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,discard=off")],
        "value-differs pci.0/02.0#discard: source has true, destination has false (-device virtio-blk-pci,discard=…)",
    ),
    case(
        "no write-zeroes",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,write-zeroes=off")],
        "value-differs pci.0/02.0#write-zeroes: source has true, destination has false (-device virtio-blk-pci,write-zeroes=…)",
    ),
    case(
        "another serial number",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,serial=abc")],
        "value-differs pci.0/02.0#serial: source has \"\", destination has \"abc\" (-device virtio-blk-pci,serial=…)",
    ),
    case(
        "a larger disk",
        &[("drive", "-drive if=none,id=d0,file=larger.img,format=raw,file.locking=off")],
        "value-differs pci.0/02.0#capacity: source has 67108864, destination has 134217728 (the size of its image)",
    ),
    case(
        "three vCPUs more",
        &[("smp", "-smp 4")],
        "value-differs machine#vcpus: source has 1, destination has 4 (-smp)",
    ),
    from(
        "fewer queues",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,num-queues=4")],
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,num-queues=1")],
        "value-differs pci.0/02.0#num-queues: source has 4, destination has 1 (-device virtio-blk-pci,num-queues=…)",
    ),
    case(
        "no vectors",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,vectors=0")],
        "value-differs pci.0/02.0#vectors: source has 2, destination has 0 (-device virtio-blk-pci,vectors=…)",
    ),
    case(
        "legacy virtio",
        &[("blk", "-device virtio-blk-pci,drive=d0,addr=2,disable-modern=on")],
        "value-differs pci.0/02.0#disable-modern: source has false, destination has true (-device virtio-blk-pci,disable-modern=…)",
    ),
    case(
        "an old CPU",
        &[("cpu", "-cpu 486")],
        "value-differs cpu/0#device: source has \"max\", destination has \"486\" (-cpu)",
    ),
    from(
        "one vCPU fewer",
        &[("smp", "-smp 2")],
        &[("smp", "-smp 1")],
        "value-differs machine#vcpus: source has 2, destination has 1 (-smp)",
    ),
    case(
        "another slot",
        &[("net", "-device virtio-net-pci,netdev=n0,addr=0x10")],
        "moved pci.0/03.0#device: source has \"pci.0/03.0\", destination has \"pci.0/10.0\"; virtio-net-pci is elsewhere (-device)",
    ),
    case(
        "no option ROM",
        &[("net", "-device virtio-net-pci,netdev=n0,addr=3,romfile=")],
        "missing-at-destination pci.0/03.0#rom: source has 262144; without it, it is as 0 (-device virtio-net-pci,romfile=…)",
    ),
    case(
        "no disk",
        &[("blk", "")],
        "missing-at-destination pci.0/02.0#device: source has \"virtio-blk-pci\" (-device)",
    ),
    case(
        "more memory",
        &[("memory", "-m 512")],
        "value-differs memory#ram: source has 268435456, destination has 536870912 (-m)",
    ),
    case(
        "another machine",
        &[("machine", "-machine pc-q35-7.2")],
        "value-differs machine#type: source has \"pc-i440fx-7.2\", destination has \"pc-q35-7.2\" (-machine)",
    ),
    case(
        "an older machine",
        &[("machine", "-machine pc-i440fx-7.1")],
        "value-differs machine#type: source has \"pc-i440fx-7.2\", destination has \"pc-i440fx-7.1\" (-machine)",
    ),
    case(
        "another device",
        &[("blk", "-device virtio-rng-pci,addr=2")],
        "value-differs pci.0/02.0#device: source has \"virtio-blk-pci\", destination has \"virtio-rng-pci\" (-device)",
    ),
    case(
        "a mouse for a keyboard",
        &[("input", "-device virtio-mouse-pci,addr=7")],
        "value-differs pci.0/07.0#device: source has \"virtio-keyboard-pci\", destination has \"virtio-mouse-pci\" (-device)",
    ),
    case(
        "memory that is not sent",
        &[("capability x-ignore-shared", "")],
        "value-differs migration#x-ignore-shared: source has false, destination has true (migrate-set-capabilities)",
    ),
];

/// What only the host knows of.
pub(crate) const HARMLESS: &[(&str, Edit<'static>)] = &[
    ("nothing", &[]),
    (
        "path of the disk",
        &[("drive", "-drive if=none,id=d0,file=other.img,format=raw,file.locking=off")],
    ),
    (
        "cache and aio",
        &[(
            "drive",
            "-drive if=none,id=d0,file=d.img,format=raw,file.locking=off,cache=none,aio=native",
        )],
    ),
    (
        "I/O thread",
        &[
            ("before", "-object iothread,id=io"),
            ("blk", "-device virtio-blk-pci,drive=d0,addr=2,iothread=io"),
        ],
    ),
    ("log", &[("z-log", "-D qemu.log -d guest_errors")]),
    ("name", &[("z-name", "-name another")]),
    (
        "monitors",
        &[(
            "z-monitor",
            "-monitor unix:monitor,server=on,wait=off -qmp unix:qmp2,server=on,wait=off",
        )],
    ),
    ("display", &[("display", "-display none -vnc unix:vnc")]),
    ("chardev", &[("chardev", "-chardev socket,id=c0,path=console,server=on,wait=off")]),
    ("netdev", &[("netdev", "-netdev hubport,id=n0,hubid=0")]),
    (
        "kind of memory",
        &[
            ("before", "-object memory-backend-memfd,id=mem,size=256M"),
            ("machine", "-machine pc-i440fx-7.2,memory-backend=mem"),
        ],
    ),
];
