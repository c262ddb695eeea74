//! `bandsox logs`

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use bandsox_store::Store;
use bandsox_store::log::{Followed, LogFollower};

use crate::failure::{Explain as _, Failure};
use crate::output::{Ui, printable, written};
use crate::storage;

/// Print what a VM's console showed
///
/// Logs are bounded on disk: of a guest that prints without end, the latest part is kept.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox logs web
  bandsox logs -f --tail 20 web
  bandsox logs --monitor web    # what bandsox did with the VM")]
pub(crate) struct LogsArgs {
    /// VM, by id, id prefix or name
    #[arg(value_name = "VM")]
    vm: String,

    /// Go on printing until the VM stops
    #[arg(long, short)]
    follow: bool,

    /// Print the last N lines only
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,

    /// Print the monitor's log instead of the guest's console
    #[arg(long)]
    monitor: bool,
}

/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Prints the log, and goes on with it if wanted.
pub(crate) fn run(ui: &Ui, store: &Store, args: &LogsArgs) -> Result<(), Failure> {
    let LogsArgs { vm, follow, tail, monitor } = args;
    let id = storage::resolve(store, vm)?;
    let paths = store.paths();
    let path = if *monitor { paths.monitor_log(&id) } else { paths.console_log(&id) };
    let cannot = format!("cannot read the log {}", path.display());
    let mut log = LogFollower::from_start(&path);
    let mut printer = Printer::new(tail.unwrap_or(usize::MAX));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // Asked before reading: what a VM printed before it ended is read after it is known to
        // have ended.
        let live = *follow && store.is_live(&id)?;
        loop {
            match log.read(&mut buffer).context(&cannot)? {
                Followed::Bytes(count) => {
                    printer.print(buffer.get(..count).unwrap_or_default())?;
                }
                Followed::Gap => ui.warn("the log was faster than its reader; some is missing"),
                Followed::UpToDate => break,
            }
        }
        printer.flush()?;
        if !live {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Passes log bytes on: at first only the last lines, then all.
struct Printer {
    /// Most lines to print of what is there already.
    tail: usize,
    /// Those lines, the last perhaps without its end; none once they are printed.
    kept: Option<VecDeque<Vec<u8>>>,
    /// A console's bytes are the guest's: on a terminal, only text and line ends pass.
    is_terminal: bool,
}

impl Printer {
    fn new(tail: usize) -> Self {
        let kept = (tail != usize::MAX).then(VecDeque::new);
        Self { tail, kept, is_terminal: io::stdout().is_terminal() }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(kept) = &mut self.kept else { return self.write(bytes) };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match kept.back_mut() {
                Some(last) if !last.ends_with(b"\n") => last.extend_from_slice(piece),
                Some(_) | None => kept.push_back(piece.to_vec()),
            }
            if kept.len() > self.tail {
                kept.pop_front();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        for line in self.kept.take().unwrap_or_default() {
            self.write(&line)?;
        }
        written(io::stdout().flush())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if !self.is_terminal {
            return written(out.write_all(bytes));
        }
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        written(out.write_all(printable(&text).as_bytes()))
    }
}
