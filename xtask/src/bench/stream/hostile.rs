//! A real stream with one bit flipped, or cut off, again and again; read by a process of its own.
//!
//! QEMU's format has no checksums, so that flips in pages and in values pass there: of those, only memory is judged.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bandsox_e2e::Process;
use serde_json::{Value, json};
use vmstream_qemu::{Event, Reader as QemuReader};

use super::captured::Captured;
use crate::bench::report::{Bar, Report};
use crate::step::say;

/// The word that makes this program such a process.
pub(crate) const READER: &str = "read-hostile";

const FLIPS: u64 = 1000;
const CUTS: u64 = 500;
/// Every other flip is in so many bytes at the end, where state is: the rest of a stream is pages.
const END: u64 = 256 << 10;

pub(super) fn run(captured: &Captured, report: &mut Report) -> Result<()> {
    for (name, word, path, flips) in [
        ("our reader", "ours", &captured.ours, Bar::AtLeast(FLIPS as f64)),
        ("QEMU's reader", "theirs", &captured.theirs, Bar::None),
    ] {
        let me = std::env::current_exe()?;
        let out = Command::new(me).args(["bench", READER, word]).arg(path).output()?;
        ensure!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        let told: Value = serde_json::from_slice(&out.stdout)?;
        let number = |key: &str| told[key].as_f64().with_context(|| format!("it told {key}"));
        report.add(format!("{name}: flips refused of {FLIPS}"), number("flips")?, "", flips);
        let all = Bar::AtLeast(CUTS as f64);
        report.add(format!("{name}: cuts refused of {CUTS}"), number("cuts")?, "", all);
        report.add(format!("{name}: peak"), number("kib")? / 1024.0, "MiB", Bar::AtMost(64.0));
    }
    Ok(())
}

/// Reads the broken streams, and tells how many were refused and what that took.
pub(crate) fn read(words: &[&str]) -> Result<()> {
    let [format, path] = *words else { bail!("usage: {READER} ours|theirs FILE") };
    let path = Path::new(path);
    let refuses = if format == "ours" { ours } else { theirs };
    ensure!(!refuses(Broken::new(path, None, u64::MAX)?), "it is whole");
    let length = path.metadata()?.len();
    let mut random = Random(length);
    let (mut flips, mut cuts) = (0, 0);
    for nth in 0..FLIPS {
        let first = if nth % 2 == 0 { 0 } else { length.saturating_sub(END) };
        let at = first + random.next() % (length - first);
        let flip = Some((at, 1 << (random.next() % 8)));
        flips += u64::from(refuses(Broken::new(path, flip, u64::MAX)?));
    }
    for _ in 0..CUTS {
        let cut = random.next() % length;
        cuts += u64::from(refuses(Broken::new(path, None, cut)?));
    }
    let peak = Process::read(std::process::id()).and_then(|me| me.status("VmHWM"));
    let peak = peak.context("a process has a peak")?;
    let kib: u64 = peak.split_whitespace().next().unwrap_or_default().parse()?;
    say(&json!({ "flips": flips, "cuts": cuts, "kib": kib }).to_string());
    Ok(())
}

fn ours(stream: Broken) -> bool {
    let mut reader = vmstream::Reader::new(io::BufReader::with_capacity(256 << 10, stream));
    loop {
        match reader.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => return reader.expect_end().is_err(),
            Err(_) => return true,
        }
    }
}

fn theirs(mut stream: Broken) -> bool {
    let mut sink = |_: Range<u64>, _: &Event<'_>| Ok(());
    QemuReader::new().read(&mut stream, &mut sink).is_err()
}

/// A file with a bit flipped, or its end missing.
struct Broken {
    file: io::Take<File>,
    at: u64,
    flip: Option<(u64, u8)>,
}

impl Broken {
    fn new(path: &Path, flip: Option<(u64, u8)>, length: u64) -> Result<Self> {
        Ok(Self { file: File::open(path)?.take(length), at: 0, flip })
    }
}

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        if let Some((at, bits)) = self.flip
            && let Some(inside) = at.checked_sub(self.at).and_then(|at| usize::try_from(at).ok())
            && let Some(byte) = buffer[..got].get_mut(inside)
        {
            *byte ^= bits;
        }
        self.at += got as u64;
        Ok(got)
    }
}

/// Numbers without an order, the same in every run. Source: Marsaglia, "Xorshift RNGs", 2003.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
