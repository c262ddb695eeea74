//! RAM into a stream and out of it, against `cp`.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use vmstream::archive::Sparse;
use vmstream::message::{
    Encoding, Hello, Manifest, PagesBuilder, Purpose, Ram, Region, Switch, SwitchMode,
};
use vmstream::writer::Finality;
use vmstream::{Piece, Writer};

use super::captured::{Captured, State};
use crate::bench::guest::seconds;
use crate::bench::report::{Bar, Report};
use crate::bench::statistics::median;
use crate::step::run as must;

const BYTES: u64 = 1 << 30;
const HUGE: u64 = 4 << 30;
const PAGE: usize = 4096;
const CHUNK: u32 = 2 << 20;
const ROUNDS: usize = 9;

/// Streams with the devices of a real machine.
pub(super) struct Files {
    /// Of 1 GiB, in pages.
    pub(super) sequential: PathBuf,
    /// Of 1 GiB, to be mapped.
    pub(super) mappable: PathBuf,
    /// Of 4 GiB of nothing, to be mapped.
    pub(super) huge: PathBuf,
}

type Job<'a> = Box<dyn Fn() -> Result<()> + 'a>;

pub(super) fn run(
    tool: &Path,
    captured: &Captured,
    dir: &Path,
    report: &mut Report,
) -> Result<Files> {
    let state = captured.machine()?;
    let (ram, out) = (dir.join("ram"), dir.join("out"));
    make_ram(&ram)?;
    let [sequential, mappable, huge] = ["sequential", "mappable", "huge"].map(|n| dir.join(n));
    write_pages(&state, &ram, &sequential)?;
    write_mappable(&state, &ram, BYTES, BufWriter::new(File::create(&mappable)?))?;
    let nothing = dir.join("nothing");
    File::create(&nothing)?.set_len(HUGE)?;
    write_mappable(&state, &nothing, HUGE, Sparse::new(File::create(&huge)?))?;
    for stream in [&sequential, &mappable] {
        read(tool, stream, &out)?;
        must(Command::new("cmp").args([&ram, &out])).context("RAM comes back as it was")?;
    }
    let jobs: [(&str, Job<'_>); 5] = [
        ("cp", Box::new(|| must(Command::new("cp").args([&ram, &out])))),
        ("write, in pages", Box::new(|| write_pages(&state, &ram, &out))),
        (
            "write, mappable",
            Box::new(|| {
                // As `vmstream convert` writes it.
                write_mappable(&state, &ram, BYTES, Sparse::new(File::create(&out)?))
            }),
        ),
        ("read, in pages", Box::new(|| read(tool, &sequential, &out))),
        ("read, mappable", Box::new(|| read(tool, &mappable, &out))),
    ];
    let (mut times, mut cpus): ([Vec<f64>; 5], [Vec<f64>; 5]) = Default::default();
    for round in 0..ROUNDS {
        for nth in 0..jobs.len() {
            // Whoever comes next has what the one before left: memory that was freed, and work for the disk.
            let at = (round + nth) % jobs.len();
            let (job, times, cpus) = (&jobs[at].1, &mut times[at], &mut cpus[at]);
            fs::remove_file(&out)?;
            // What others left to be written would slow down whoever comes next.
            must(Command::new("sync").arg("-f").arg(dir))?;
            let mut done = Ok(());
            let before = cpu_seconds()?;
            times.push(seconds(|| done = job()));
            done?;
            cpus.push(cpu_seconds()? - before);
        }
    }
    let speed = |times: &[f64]| BYTES as f64 / median(times) / 1e9;
    report.add("1 GiB of RAM: cp", speed(&times[0]), "GB/s", Bar::None);
    for (((name, _), mine), cpu) in jobs.iter().zip(&times).zip(&cpus).skip(1) {
        let name = format!("1 GiB of RAM: {name}");
        report.add(&name, speed(mine), "GB/s", Bar::None);
        let ratio = median(&times[0]) / median(mine);
        report.add(format!("{name} ÷ cp"), ratio, "", Bar::AtLeast(0.8));
        let ratio = median(&cpus[0]) / median(cpu);
        report.add(format!("{name} ÷ cp, in processor time"), ratio, "", Bar::None);
    }
    drop(jobs);
    Ok(Files { sequential, mappable, huge })
}

/// Processor time of this process and of the children that have ended.
///
/// On a machine with others on it, `cp` loses less to them than its share: it is one call of the kernel.
fn cpu_seconds() -> Result<f64> {
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("a name in parentheses")?.1.split_whitespace();
    // Source: proc_pid_stat(5); utime, stime, cutime and cstime are fields 14 to 17, the one behind the name is the third.
    let times: Result<Vec<f64>, _> = fields.skip(11).take(4).map(str::parse::<f64>).collect();
    Ok(times?.into_iter().sum::<f64>() / TICKS)
}

/// Zeros, program text, noise, program text; and so on.
fn make_ram(path: &Path) -> Result<()> {
    const RUN: usize = 64 << 10;
    let text = fs::read("/usr/bin/qemu-system-x86_64").context("QEMU is installed")?;
    let mut texts = text.chunks_exact(RUN).cycle();
    let mut noise = File::open("/dev/urandom")?;
    let mut out = BufWriter::with_capacity(Piece::BEST, File::create(path)?);
    let mut run = vec![0; RUN];
    for nth in 0..BYTES / RUN as u64 {
        match nth % 4 {
            0 => run.fill(0),
            2 => noise.read_exact(&mut run)?,
            _ => run.copy_from_slice(texts.next().context("QEMU is long")?),
        }
        out.write_all(&run)?;
    }
    Ok(out.flush()?)
}

fn begin<W: Write>(state: &State, bytes: u64, out: W) -> Result<Writer<W>> {
    let mut writer = Writer::new(out, &Hello::new("bench", "1", Purpose::State))?;
    for (id, schema) in &state.schemas {
        writer.schema_as(*id, schema)?;
    }
    let (name, kind) = ("ram".to_owned(), "ram".to_owned());
    let memory = vec![Region { name, kind, bytes, gpa: Some(0) }];
    writer.manifest(&Manifest { memory, ..state.manifest.clone() })?;
    Ok(writer)
}

fn end<W: Write>(state: &State, writer: &mut Writer<W>) -> Result<()> {
    writer.switch(&Switch { mode: SwitchMode::Stopped })?;
    Ok(writer.devices(&state.records, Finality::Final)?)
}

fn write_pages(state: &State, ram: &Path, out: &Path) -> Result<()> {
    let out = BufWriter::with_capacity(Piece::BEST, File::create(out)?);
    let mut writer = begin(state, BYTES, out)?;
    let mut pages = PagesBuilder::new(0, PAGE, Encoding::Raw);
    let (mut ram, mut piece, mut page) = (File::open(ram)?, Piece::new(Piece::BEST), 0);
    let piece = piece.bytes();
    for _ in 0..BYTES / Piece::BEST as u64 {
        ram.read_exact(piece)?;
        for bytes in piece.chunks(PAGE) {
            pages.page(page, bytes);
            page += 1;
            if pages.is_full() {
                writer.pages(&pages.build()?)?;
            }
        }
    }
    if !pages.is_empty() {
        writer.pages(&pages.build()?)?;
    }
    end(state, &mut writer)?;
    writer.finish()?;
    Ok(())
}

fn write_mappable(state: &State, ram: &Path, length: u64, out: impl Write) -> Result<()> {
    let mut writer = begin(state, length, out)?;
    let frame = Ram { region: 0, offset: 0, chunk: CHUNK, length };
    writer.ram(&frame, CHUNK, &mut File::open(ram)?)?;
    end(state, &mut writer)?;
    writer.finish_with_index()?;
    Ok(())
}

/// As users read it.
fn read(tool: &Path, stream: &Path, out: &Path) -> Result<()> {
    must(Command::new(tool).arg("ram").arg(stream).args(["--region", "ram", "-o"]).arg(out))
}
