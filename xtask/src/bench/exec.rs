//! How long does `true` take in the guest, idle and while a large file moves?
//!
//! The time from the request to the exit status inside a connection that is open already, in milliseconds: what a
//! program that keeps a connection would see. One connection a command; connecting is not counted, nor is the command
//! line's start. `whole command` is what a user at a shell waits, for comparison.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bandsox_client::exec::{Begin, Conversation, Event, Exec, SessionId};
use bandsox_e2e::{Bed, Storage, Vm, connect};

use super::guest::timed;
use super::report::{Bar, Report};
use super::statistics::{median, p95};

const IDLE_RUNS: u64 = 200;
const MIN_BUSY_RUNS: usize = 50;
const BULK_BYTES: usize = 256 << 20;

pub(super) fn run(_bed: &Bed, report: &mut Report) -> Result<()> {
    let storage = Storage::new();
    let vm = storage.create_with("exec", &["--mem", "1024"]);
    vm.start();
    let port = vm.metadata()["vsock_config"]["port"].as_u64().context("it runs")?;
    let mut client = Client { port: u32::try_from(port)?, runs: 0 };

    let idle = (0..IDLE_RUNS).map(|_| client.time_one(&vm)).collect::<Result<Vec<_>>>()?;
    let busy = under_bulk(&storage, &vm, &mut client)?;
    let commands: Vec<_> = (0..20).map(|_| timed(vm.exec(&["true"])) * 1e3).collect();

    report.add("exec true, idle: median", median(&idle), "ms", Bar::None);
    report.add("exec true, idle: p95", p95(&idle), "ms", Bar::None);
    report.add("exec true, during a transfer: median", median(&busy), "ms", Bar::None);
    report.add("exec true, during a transfer: p95", p95(&busy), "ms", Bar::None);
    report.add("p95 during a transfer ÷ p95 idle", p95(&busy) / p95(&idle), "", Bar::AtMost(5.0));
    report.add("exec true, whole command: median", median(&commands), "ms", Bar::None);
    Ok(())
}

/// Uploads the same file again and again until enough commands have run meanwhile.
fn under_bulk(storage: &Storage, vm: &Vm<'_>, client: &mut Client) -> Result<Vec<f64>> {
    let bulk = storage.file("bulk", &vec![b'x'; BULK_BYTES]);
    let mut times = Vec::new();
    while times.len() < MIN_BUSY_RUNS {
        let mut upload = vm.upload(&bulk, "/dev/shm/bulk").spawn();
        while upload.is_running() {
            let time = client.time_one(vm)?;
            // One that outlasted the transfer was not measured under it.
            if upload.is_running() {
                times.push(time);
            }
        }
        upload.wait().ok();
    }
    Ok(times)
}

struct Client {
    port: u32,
    runs: u64,
}

impl Client {
    /// Milliseconds from the request to the exit status.
    fn time_one(&mut self, vm: &Vm<'_>) -> Result<f64> {
        let mut stream = connect(&vm.sockets(), self.port)?;
        self.runs += 1;
        let start = Instant::now();
        run_true(&mut stream, self.runs)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

fn run_true(stream: &mut UnixStream, number: u64) -> Result<()> {
    let mut conversation = Conversation::new(Begin::Run(exec_true(number)));
    conversation.connected()?;
    let mut buffer = [0; 4096];
    loop {
        let outbound = conversation.outbound().to_vec();
        stream.write_all(&outbound)?;
        conversation.sent(outbound.len());
        while let Some(event) = conversation.next_event()? {
            match event {
                Event::Exited(_) => return Ok(()),
                Event::Refused(fault) => bail!("the agent refused: {fault:?}"),
                Event::Started(_) | Event::Output(..) => {}
            }
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            bail!("the agent hung up");
        }
        conversation.receive(&buffer[..count]);
    }
}

fn exec_true(number: u64) -> Exec {
    let mut session = [0; 16];
    session[..8].copy_from_slice(&number.to_le_bytes());
    Exec::new(SessionId(session), vec!["/bin/true".into()])
}
