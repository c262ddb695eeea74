//! How fast do files go in and out, against the barest programs that move the same bytes in the same guest?
//!
//! Three ways take turns, each direction: `bandsox upload` or `download`, the whole command; the barest loop between a
//! file and a vsock stream on both sides; the raw stream out of and into memory. Rates are in MB/s of file contents.
//! In the guest files lie in memory (`/dev/shm`), on the host in the page cache. Nobody syncs on either side, so what is
//! compared is durable in neither. Left out: the guest's disk.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use bandsox_e2e::{Bed, Storage, Vm, connect};

use super::guest::{listen, seconds, timed};
use super::report::{Bar, Report};
use super::statistics::median;

const LARGE_BYTES: usize = 256 << 20;
const MEDIUM_BYTES: usize = 16 << 20;
const ROUNDS: usize = 5;
const SMALL_FILES: usize = 10_000;
/// Of these the time of single uploads is extrapolated.
const SINGLE_FILES: usize = 100;
/// As large as the guest's peer has it.
const BUFFER_BYTES: usize = 1 << 18;

// Ports of the guest's peers.
const TO_FILE: u32 = 6001;
const TO_MEMORY: u32 = 6002;
const FROM_FILE: u32 = 6003;
const FROM_MEMORY: u32 = 6004;

pub(super) fn run(_bed: &Bed, report: &mut Report) -> Result<()> {
    let storage = Storage::new();
    let vm = storage.create_with("files", &["--mem", "2048"]);
    vm.start();
    large_files(&storage, &vm, report)?;
    protocols(&storage, &vm, report);
    directories(&storage, &vm, report)?;
    memory(&storage, &vm, report);
    Ok(())
}

fn large_files(storage: &Storage, vm: &Vm<'_>, report: &mut Report) -> Result<()> {
    let large = storage.file("large", &noise(LARGE_BYTES));
    vm.upload(&large, "/dev/shm/source").ok();
    listen(vm, TO_FILE, "receive /dev/shm/peer");
    listen(vm, TO_MEMORY, "receive");
    listen(vm, FROM_FILE, "send /dev/shm/source");
    listen(vm, FROM_MEMORY, &format!("send {LARGE_BYTES}"));
    let back = storage.scratch("back");
    let zeros = vec![0; LARGE_BYTES];
    let (mut up, mut down) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        up.ours.push(timed(vm.upload(&large, "/dev/shm/ours")));
        up.loops.push(seconds(|| send(vm, TO_FILE, &mut fs::File::open(&large).expect("written"))));
        up.raw.push(seconds(|| send(vm, TO_MEMORY, &mut zeros.as_slice())));
        vm.sh("rm /dev/shm/ours /dev/shm/peer");
        down.ours.push(timed(vm.download("/dev/shm/source", &back)));
        down.loops.push(seconds(|| {
            receive(vm, FROM_FILE, &mut fs::File::create(&back).expect("there is room"));
        }));
        down.raw.push(seconds(|| receive(vm, FROM_MEMORY, &mut std::io::sink())));
        fs::remove_file(&back)?;
    }
    vm.sh("pkill vsock-peer; rm /dev/shm/source");
    up.report("upload", report);
    down.report("download", report);
    Ok(())
}

/// Seconds of each way, round by round.
#[derive(Default)]
struct Rounds {
    ours: Vec<f64>,
    loops: Vec<f64>,
    raw: Vec<f64>,
}

impl Rounds {
    fn report(&self, name: &str, report: &mut Report) {
        let rate = |seconds: &[f64]| LARGE_BYTES as f64 / 1e6 / median(seconds);
        let against = |other: &[f64]| {
            let ratios: Vec<_> =
                self.ours.iter().zip(other).map(|(ours, other)| other / ours).collect();
            median(&ratios)
        };
        report.add(format!("{name} 256 MiB"), rate(&self.ours), "MB/s", Bar::None);
        report.add(
            format!("{name}: barest loop, file to file"),
            rate(&self.loops),
            "MB/s",
            Bar::None,
        );
        report.add(
            format!("{name}: raw stream, memory to memory"),
            rate(&self.raw),
            "MB/s",
            Bar::None,
        );
        report.add(format!("{name} ÷ barest loop"), against(&self.loops), "", Bar::AtLeast(0.9));
        report.add(format!("{name} ÷ raw stream"), against(&self.raw), "", Bar::AtLeast(0.7));
    }
}

/// The newer protocol against the older one, whole commands.
fn protocols(storage: &Storage, vm: &Vm<'_>, report: &mut Report) {
    let medium = storage.file("medium", &noise(MEDIUM_BYTES));
    let back = storage.scratch("back");
    let (mut up, mut down) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..ROUNDS {
        for (at, protocol) in ["v1", "v2"].into_iter().enumerate() {
            let with = ["--protocol", protocol];
            up[at].push(timed(vm.upload(&medium, "/dev/shm/medium").args(with)));
            down[at].push(timed(vm.download("/dev/shm/medium", &back).args(with)));
        }
    }
    for (name, [v1, v2]) in [("upload", up), ("download", down)] {
        let ratios: Vec<_> = v1.iter().zip(&v2).map(|(v1, v2)| v1 / v2).collect();
        report.add(
            format!("{name} 16 MiB, v1"),
            MEDIUM_BYTES as f64 / 1e6 / median(&v1),
            "MB/s",
            Bar::None,
        );
        report.add(format!("{name} 16 MiB, v2 ÷ v1"), median(&ratios), "", Bar::AtLeast(3.0));
    }
}

/// One directory against as many single uploads, the latter extrapolated.
fn directories(storage: &Storage, vm: &Vm<'_>, report: &mut Report) -> Result<()> {
    let tree = storage.scratch("tree");
    fs::create_dir(&tree)?;
    for n in 0..SMALL_FILES {
        fs::write(tree.join(format!("file-{n:05}")), [b'x'; 1024])?;
    }
    let back = storage.scratch("tree-back");
    let up = timed(vm.upload(&tree, "/dev/shm/tree"));
    let down = timed(vm.download("/dev/shm/tree", &back));
    let files = |n: usize| tree.join(format!("file-{n:05}"));
    let singles = seconds(|| {
        for n in 0..SINGLE_FILES {
            vm.upload(&files(n), &format!("/dev/shm/single-{n}")).ok();
        }
    });
    let extrapolated = singles * (SMALL_FILES / SINGLE_FILES) as f64;
    vm.sh("rm -r /dev/shm/tree /dev/shm/single-*");
    report.add("upload 10,000 × 1 KiB as a directory", up, "s", Bar::None);
    report.add("download 10,000 × 1 KiB as a directory", down, "s", Bar::None);
    report.add(
        "10,000 single uploads (from 100) ÷ directory",
        extrapolated / up,
        "",
        Bar::AtLeast(50.0),
    );
    Ok(())
}

/// How much more memory a file of 256 MiB takes than one of 16 MiB, in the monitor and in the command.
fn memory(storage: &Storage, vm: &Vm<'_>, report: &mut Report) {
    let large = storage.scratch("large");
    let medium = storage.scratch("medium");
    let back = storage.scratch("back");
    // The download of a size follows its upload: what lies in the guest has that size.
    let peaks = [&medium, &large].map(|local| {
        let up = peak_kib(vm, vm.upload(local, "/dev/shm/file"));
        [up, peak_kib(vm, vm.download("/dev/shm/file", &back))]
    });
    for (at, name) in ["upload", "download"].into_iter().enumerate() {
        let [small, big] = [peaks[0][at], peaks[1][at]];
        let growth = |of: fn(Peak) -> f64| (of(big) - of(small)) / 1024.0;
        report.add(
            format!("{name}: monitor, 256 − 16 MiB"),
            growth(|peak| peak.monitor),
            "MiB",
            Bar::AtMost(2.0),
        );
        report.add(
            format!("{name}: command, 256 − 16 MiB"),
            growth(|peak| peak.command),
            "MiB",
            Bar::AtMost(2.0),
        );
    }
}

/// Highest memory seen during a command, in KiB, guest RAM apart.
#[derive(Clone, Copy)]
struct Peak {
    monitor: f64,
    command: f64,
}

fn peak_kib(vm: &Vm<'_>, run: bandsox_e2e::Run) -> Peak {
    let monitor = vm.monitor();
    let mut started = run.spawn();
    let mut peak = Peak { monitor: 0.0, command: 0.0 };
    while started.is_running() {
        peak.monitor = peak.monitor.max(private_kib(&monitor));
        if let Some(command) = bandsox_e2e::Process::read(started.pid()) {
            peak.command = peak.command.max(private_kib(&command));
        }
        thread::sleep(Duration::from_millis(5));
    }
    started.wait().ok();
    peak
}

/// `RssAnon` + `RssFile` of a process: what it takes besides the guest's RAM.
pub(super) fn private_kib(process: &bandsox_e2e::Process) -> f64 {
    let kib = |key| {
        let value = process.status(key).unwrap_or_default();
        value.trim_end_matches(" kB").parse::<f64>().unwrap_or_default()
    };
    kib("RssAnon") + kib("RssFile")
}

fn send(vm: &Vm<'_>, port: u32, from: &mut dyn Read) {
    let mut stream = connect(&vm.sockets(), port).expect("the peer listens");
    copy(from, &mut stream);
    stream.shutdown(Shutdown::Write).expect("half a close");
    let mut count = [0; 8];
    stream.read_exact(&mut count).expect("the peer answers");
    assert_eq!(u64::from_le_bytes(count), LARGE_BYTES as u64);
}

fn receive(vm: &Vm<'_>, port: u32, to: &mut dyn Write) {
    let mut stream: UnixStream = connect(&vm.sockets(), port).expect("the peer listens");
    assert_eq!(copy(&mut stream, to), LARGE_BYTES);
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> usize {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 0;
    loop {
        let count = from.read(&mut buffer).expect("readable");
        if count == 0 {
            return total;
        }
        to.write_all(&buffer[..count]).expect("writable");
        total += count;
    }
}

/// Bytes that nothing compresses and no hole hides in.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
