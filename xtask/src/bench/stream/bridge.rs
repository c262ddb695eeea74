//! A guest of 512 MiB, half of them data, that moves: through `vmstream bridge`, and from QEMU to QEMU.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::bed::{self, Bed, Machine, Vm};
use crate::bench::report::{Bar, Report};
use crate::bench::statistics::median;

const ROUNDS: usize = 7;
/// Clock ticks of `/proc/PID/stat` in a second, as Linux has had them always.
const TICKS: f64 = 100.0;
/// More than any network: as fast as it goes.
const UNLIMITED: u64 = 1 << 40;

/// What a migration took: milliseconds as the source's QEMU counts them, and seconds of each process.
#[derive(Default)]
struct Took {
    total: Vec<f64>,
    downtime: Vec<f64>,
    source: Vec<f64>,
    destination: Vec<f64>,
    sender: Vec<f64>,
    receiver: Vec<f64>,
}

pub(super) fn run(tool: &Path, report: &mut Report) -> Result<()> {
    for (name, bandwidth) in [("400 MB/s", 400_000_000), ("unlimited", UNLIMITED)] {
        let (mut through, mut direct) = (Took::default(), Took::default());
        for _ in 0..ROUNDS {
            one(None, bandwidth, &mut direct)?;
            one(Some(tool), bandwidth, &mut through)?;
        }
        for (way, took) in [("QEMU to QEMU", &direct), ("bridge", &through)] {
            let row = |what: &str| format!("{way}, {name}: {what}");
            report.add(row("total time"), median(&took.total), "ms", Bar::None);
            report.add(row("downtime"), median(&took.downtime), "ms", Bar::None);
            report.add(row("processor time of the source"), median(&took.source), "s", Bar::None);
            let destination = median(&took.destination);
            report.add(row("processor time of the destination"), destination, "s", Bar::None);
            if !took.sender.is_empty() {
                report.add(row("processor time of send"), median(&took.sender), "s", Bar::None);
                let receiver = median(&took.receiver);
                report.add(row("processor time of receive"), receiver, "s", Bar::None);
            }
        }
        let bar = || if bandwidth == UNLIMITED { Bar::None } else { Bar::AtMost(1.1) };
        let total = median(&through.total) / median(&direct.total);
        report.add(format!("{name}: bridge ÷ direct, total time"), total, "×", bar());
        let downtime = median(&through.downtime) / median(&direct.downtime);
        report.add(format!("{name}: bridge ÷ direct, downtime"), downtime, "×", bar());
    }
    Ok(())
}

/// Moves a new guest once.
fn one(tool: Option<&Path>, bandwidth: u64, took: &mut Took) -> Result<()> {
    let (dir, qemu) = (bed::directory(), &Bed::get().new);
    let mut source = Vm::holding(qemu, Machine::Pc, dir.path());
    let mut destination = Vm::waiting_to_hold(qemu, Machine::Pc, dir.path());
    let limits = json!({ "max-bandwidth": bandwidth, "downtime-limit": 300 });
    source.qmp.ask("migrate-set-parameters", limits);
    let before = (processor(source.pid())?, processor(destination.pid())?);
    if let Some(tool) = tool {
        let (sender, receiver) = bridge(tool, &source, &destination)?;
        took.sender.push(sender);
        took.receiver.push(receiver);
    } else {
        for vm in [&mut source, &mut destination] {
            vm.qmp.capability("return-path", true);
        }
        destination.qmp.ask("migrate-incoming", json!({ "uri": "tcp:127.0.0.1:0" }));
        let waits = destination.qmp.ask("query-migrate", json!({}));
        let port = waits.pointer("/socket-address/0/port").and_then(Value::as_str);
        let port = port.context("a destination says where it waits")?;
        source.migrate(&format!("tcp:127.0.0.1:{port}"));
    }
    destination.wait_status("running");
    took.source.push(processor(source.pid())? - before.0);
    took.destination.push(processor(destination.pid())? - before.1);
    let answer = source.qmp.ask("query-migrate", json!({}));
    let number = |name: &str| answer.get(name).and_then(Value::as_f64).context("QEMU counts");
    took.total.push(number("total-time")?);
    took.downtime.push(number("downtime")?);
    Ok(())
}

/// Runs sender and receiver, and returns the seconds of processor time that each took.
fn bridge(tool: &Path, source: &Vm, destination: &Vm) -> Result<(f64, f64)> {
    let mut receive = Command::new(tool);
    receive.args(["bridge", "receive", "--listen", "127.0.0.1:0", "--qmp"]);
    receive.arg(destination.monitor()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut receiver = receive.spawn()?;
    let mut said = BufReader::new(receiver.stderr.take().context("it is piped")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    let address = line.trim().rsplit(' ').next().context("it says where it waits")?;
    let mut send = Command::new(tool);
    send.args(["bridge", "send", "--to", address, "--qmp"]).arg(source.monitor());
    let sender = send.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok((ended(sender)?, ended(receiver)?))
}

/// Waits for a child, and returns the seconds of processor time that it took.
fn ended(mut child: Child) -> Result<f64> {
    let before = of_children()?;
    let status = child.wait()?;
    ensure!(status.success(), "the bridge ended with {status}");
    Ok(of_children()? - before)
}

/// Seconds that a process has used.
fn processor(pid: u32) -> Result<f64> {
    times(&format!("/proc/{pid}/stat"), 11)
}

/// Seconds that children have used that were waited for.
fn of_children() -> Result<f64> {
    times("/proc/self/stat", 13)
}

/// The sum of two fields behind the command's name, in seconds. Source: proc(5).
fn times(path: &str, first: usize) -> Result<f64> {
    let stat = fs::read_to_string(path)?;
    let (_, rest) = stat.rsplit_once(')').context("a name in brackets")?;
    let fields = rest.split_whitespace().skip(first).take(2);
    let ticks: f64 = fields.map(|field| field.parse().unwrap_or(0.0)).sum();
    Ok(ticks / TICKS)
}
