//! `bandsox bench`

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use bandsox_client::exec::{
    Attachment, Begin, Command, Conversation, Ended, Exec, Exit, LinkError, Streams,
    run as see_to_its_end,
};
use bandsox_client::{Channel, Monitor, PutFile};
use bandsox_proto::ByteString;
use bandsox_store::Store;
use serde::Serialize;

use super::exec::fresh_session;
use crate::failure::{Explain as _, Failure};
use crate::output::Ui;
use crate::storage;

/// Measure a running VM: transfer rates and the latency of exec
///
/// Files are written to /tmp in the guest and removed again.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox bench web
  bandsox bench web --size 256 -o json")]
pub(crate) struct BenchArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,

    /// Size of the file to transfer, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,

    /// How often to run `true`
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    execs: u32,
}

/// One number.
#[derive(Debug, Serialize)]
struct Measure {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

/// Measures and prints.
pub(crate) fn run(ui: &Ui, store: &Store, args: &BenchArgs) -> Result<(), Failure> {
    let BenchArgs { vm, size, execs } = args;
    let id = storage::resolve(store, vm)?;
    let mut monitor = storage::monitor(store, &id)?;
    let mut measures = commands(&mut monitor, *execs)?;
    measures.extend(files(&mut monitor, u64::from(*size) << 20)?);
    if ui.is_json() {
        return ui.json(&measures);
    }
    measures.iter().try_for_each(|Measure { name, value, unit }| {
        ui.line(format!("{name:<20} {value:>9.1} {unit}"))
    })
}

/// How long `true` takes from here and back.
fn commands(monitor: &mut Monitor, count: u32) -> Result<Vec<Measure>, Failure> {
    let mut took = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        execute(monitor, &["true"])?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let at = |percent: usize| {
        let rank = took.len().saturating_mul(percent).div_ceil(100).saturating_sub(1);
        took.get(rank).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    Ok(vec![
        Measure { name: "exec true, median", value: at(50), unit: "ms" },
        Measure { name: "exec true, p95", value: at(95), unit: "ms" },
    ])
}

/// How fast one file goes in and comes out.
fn files(monitor: &mut Monitor, size: u64) -> Result<Vec<Measure>, Failure> {
    let sent = noise(size).context("cannot make a file to send")?;
    let name: String = fresh_session()?.to_string().chars().take(12).collect();
    let path = format!("/tmp/.bandsox-bench-{name}");
    let put = PutFile {
        file: &sent,
        size,
        path: ByteString::from(path.as_str()),
        name: None,
        mode: 0o600,
        mtime_ns: 0,
        transport: None,
    };
    let began = Instant::now();
    monitor.put_file(put, &mut |_| ()).map_err(storage::refused)?;
    let up = began.elapsed();

    let got = tempfile::tempfile().context("cannot make a file to receive")?;
    let began = Instant::now();
    let fetched = monitor.get_file(ByteString::from(path.as_str()), got.as_fd(), None, &mut |_| ());
    let down = began.elapsed();
    execute(monitor, &["rm", "-f", &path]).context(format!("cannot remove {path} in the VM"))?;
    fetched.map_err(storage::refused)?;
    let rate = |took: Duration| mib(size) / took.as_secs_f64().max(f64::EPSILON);
    Ok(vec![
        Measure { name: "upload", value: rate(up), unit: "MiB/s" },
        Measure { name: "download", value: rate(down), unit: "MiB/s" },
    ])
}

#[expect(clippy::cast_precision_loss, reason = "for reading, and at most 4 GiB")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// A file without holes that does not compress.
fn noise(size: u64) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    let mut block = vec![0; 1 << 20];
    getrandom::fill(&mut block).map_err(std::io::Error::other)?;
    for _ in 0..size >> 20 {
        file.write_all(&block)?;
    }
    Ok(file)
}

/// Runs a command that must succeed and says nothing.
fn execute(monitor: &mut Monitor, words: &[&str]) -> Result<(), Failure> {
    let null = File::options().write(true).open("/dev/null")?;
    let argv = words.iter().map(|word| ByteString::from(*word)).collect();
    let exec = Exec::new(fresh_session()?, argv);
    let streams = Streams { stdin: None, stdout: null.as_fd(), stderr: null.as_fd() };
    let conversation = Conversation::new(Begin::Run(exec));
    match see_to_its_end(conversation, &mut Plain { monitor }, streams)? {
        Ended::Exited(Exit { code: Some(0), .. }) => Ok(()),
        Ended::Exited(_) | Ended::Left | Ended::OutputClosed => {
            Err(Failure::new(format!("{} failed in the VM", words.join(" "))))
        }
    }
}

/// A session that nobody watches.
struct Plain<'a> {
    monitor: &'a mut Monitor,
}

impl Attachment for Plain<'_> {
    fn connect(&mut self) -> Result<Channel, LinkError> {
        self.monitor.open_channel(None).map_err(|error| LinkError::Final(Box::new(error)))
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn commands(&mut self) -> Vec<Command> {
        Vec::new()
    }
}
