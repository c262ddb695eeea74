//! `bridge`: live migration between two QEMUs as a stream of ours.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use vmstream_bridge::{Address, News, Outcome, Progress, Receive, Send};

use crate::cli::Shape;
use crate::output::{self, printable, size};
use crate::{failure, verdict};

/// Move a running guest from one QEMU to another
///
/// `receive` waits beside a QEMU that was started with `-incoming defer`; `send` stands beside the one that has the guest.
/// What crosses the network is a stream as all other commands read it. Before the first page both contracts are
/// compared, and both sides print every reason why the guest cannot go; the source then was never told to migrate.
///
/// The source keeps its guest until the destination has all of it. Ctrl-C at the sender cancels, and the guest stays; when it
/// has gone ahead of its pages (`--postcopy`), it takes a second one, and the guest is lost. The connection is neither encrypted nor
/// authenticated: use a tunnel where the network is not yours.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream bridge receive --qmp destination.sock --listen 10.0.0.2:4444\n  vmstream bridge send --qmp source.sock --to 10.0.0.2:4444\n  vmstream bridge send --qmp source.sock --to 10.0.0.2:4444 --check\n  ssh -L /run/b.sock:/run/b.sock host vmstream bridge receive --qmp d.sock --listen unix:/run/b.sock"
)]
pub(crate) struct BridgeArgs {
    #[command(subcommand)]
    side: Side,
}

#[derive(Subcommand, Debug)]
enum Side {
    Send(SendArgs),
    Receive(ReceiveArgs),
}

/// Send the guest of a QEMU to a receiver
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  vmstream bridge send --qmp source.sock --to 10.0.0.2:4444 --max-bandwidth 400"
)]
struct SendArgs {
    /// The QMP socket of the QEMU that has the guest
    #[arg(long, value_name = "SOCKET")]
    qmp: PathBuf,
    /// Where the receiver waits: HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    to: Address,
    /// Ask for the verdict, and send nothing
    #[arg(long)]
    check: bool,
    /// Let the guest go after so many passes over its memory; pages that it lacks follow
    #[arg(long, value_name = "PASSES", num_args = 0..=1, default_missing_value = "1", require_equals = true)]
    postcopy: Option<u64>,
    /// MB a second that QEMU may send [default: its own setting, 128 MiB/s unless it was changed]
    #[arg(long, value_name = "MB/S", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_bandwidth: Option<u64>,
    /// Milliseconds that the guest may stand still [default: QEMU's own setting, 300 unless it was changed]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    downtime_limit: Option<u64>,
    #[command(flatten)]
    told: Told,
}

/// Wait for a guest, beside a QEMU that was started with -incoming defer
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  vmstream bridge receive --qmp destination.sock --listen 10.0.0.2:4444\n  vmstream bridge receive --qmp destination.sock --listen 10.0.0.2:4444 --watch w.sock\n  socat -u UNIX-CONNECT:w.sock - | vmstream inspect -"
)]
struct ReceiveArgs {
    /// The QMP socket of the QEMU that waits
    #[arg(long, value_name = "SOCKET")]
    qmp: PathBuf,
    /// Where to wait for the sender: ADDRESS:PORT (port 0: any that is free) or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    listen: Address,
    /// A socket to be made, at which others may read the stream, from whenever they come
    #[arg(long, value_name = "SOCKET")]
    watch: Option<PathBuf>,
    /// Load devices from their records alone, for senders that are not trusted: the guest stands still for some 10 ms longer
    ///
    /// Otherwise QEMU loads devices as they come, while their records are on the way; what is in these must be the same.
    #[arg(long)]
    from_records: bool,
    #[command(flatten)]
    told: Told,
}

#[derive(Args, Debug)]
struct Told {
    /// Show also what follows from refusals, and harmless differences
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(args: &BridgeArgs) -> anyhow::Result<ExitCode> {
    match &args.side {
        Side::Send(args) => send(args),
        Side::Receive(args) => receive(args),
    }
}

fn send(args: &SendArgs) -> anyhow::Result<ExitCode> {
    let options = Send {
        qmp: args.qmp.clone(),
        to: args.to.clone(),
        only_asks: args.check,
        postcopy: args.postcopy,
        max_bandwidth: args.max_bandwidth.map(|rate| rate.saturating_mul(1_000_000)),
        downtime_limit: args.downtime_limit,
        stop: interrupts()?,
    };
    let mut teller = Teller::new(&args.told);
    let outcome = vmstream_bridge::send(&options, &mut |news| teller.tell(&news))?;
    teller.end(&outcome, |summary| {
        let Progress { sent, total_ms, downtime_ms, pass, .. } = summary.progress;
        let downtime = downtime_ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms"));
        let (sent_as, total) = (size(sent), Duration::from_millis(total_ms));
        let text = format!("moved: {sent_as} in {total:.1?}, passes {pass}, downtime {downtime}");
        let json = json!({
            "sent_bytes": sent, "total_ms": total_ms, "downtime_ms": downtime_ms, "passes": pass,
        });
        (text, json)
    })
}

/// What a signal sets. As long as it is set, one ends the process: at first, since nothing has begun, and the second one.
fn interrupts() -> anyhow::Result<Arc<AtomicBool>> {
    let set = Arc::new(AtomicBool::new(true));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&set))?;
        flag::register(signal, Arc::clone(&set))?;
    }
    Ok(set)
}

fn receive(args: &ReceiveArgs) -> anyhow::Result<ExitCode> {
    let (qmp, listen) = (args.qmp.clone(), args.listen.clone());
    let (watch, from_records) = (args.watch.clone(), args.from_records);
    let options = Receive { qmp, listen, from_records, watch };
    let mut teller = Teller::new(&args.told);
    let outcome = vmstream_bridge::receive(&options, &mut |news| teller.tell(&news))?;
    teller.end(&outcome, |status| {
        (format!("arrived: the guest is {status}"), json!({ "status": status }))
    })
}

/// Says what happens, as it does: the way on standard error, the result on standard output.
struct Teller<'a> {
    told: &'a Told,
    verdict: Json,
    last: Instant,
    sent: u64,
}

impl<'a> Teller<'a> {
    fn new(told: &'a Told) -> Self {
        Self { told, verdict: Json::Null, last: Instant::now(), sent: 0 }
    }

    fn tell(&mut self, news: &News<'_>) {
        let mut err = io::stderr().lock();
        // Where standard error is closed there is nobody to tell.
        drop(match news {
            News::Listening(address) => writeln!(err, "listening on {address}"),
            News::Stranger(error) => {
                writeln!(err, "sent away: {}", failure::causes(*error))
            }
            News::Verdict(comparison) => {
                self.verdict = verdict::as_json(comparison);
                if self.told.shape.is_json() {
                    Ok(())
                } else {
                    verdict::print(comparison, self.told.verbose, &mut io::stdout().lock())
                }
            }
            News::Progress(progress) => self.progress(progress, &mut err),
            _ => Ok(()),
        });
    }

    fn progress(&mut self, progress: &Progress, err: &mut impl io::Write) -> io::Result<()> {
        let since = self.last.elapsed();
        if since < Duration::from_secs(1) {
            return Ok(());
        }
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
        let sent = progress.sent.saturating_sub(self.sent).saturating_mul(1000) / millis;
        (self.last, self.sent) = (Instant::now(), progress.sent);
        let Progress { status, pass, remaining, sent: all, .. } = progress;
        let (all, left, rate) = (size(*all), size(*remaining), size(sent));
        let status = printable(status);
        writeln!(err, "{status}, pass {pass}: {all} sent, {left} left, {rate}/s")
    }

    fn end<T>(
        &self,
        outcome: &Outcome<T>,
        moved: impl FnOnce(&T) -> (String, Json),
    ) -> anyhow::Result<ExitCode> {
        let (result, text, mut json, code) = match outcome {
            Outcome::Refused => ("refused", None, json!({}), failure::DIFFERS),
            Outcome::WouldMove => ("would-move", None, json!({}), 0),
            Outcome::Moved(what) => {
                let (text, json) = moved(what);
                ("moved", Some(text), json, 0)
            }
        };
        if self.told.shape.is_json() {
            json["result"] = result.into();
            json["verdict"] = self.verdict.clone();
            output::json(&json)?;
        } else if let Some(text) = text {
            output::line(printable(&text))?;
        }
        Ok(ExitCode::from(code))
    }
}
