//! A guest goes: QEMU's stream one way, answers the other, and an eye on QEMU meanwhile.

use std::io::{BufReader, BufWriter};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use vmstream::message::{Manifest, Verdict};
use vmstream::writer::Compress;
use vmstream_qemu::Reader as QemuReader;
use vmstream_transcode::{Options, to_vmstream};

use crate::ending::reason;
use crate::error::BridgeError;
use crate::machine::Machine;
use crate::offer::Offer;
use crate::send::{Send, Summary};
use crate::wire::Wire;
use crate::{News, answers};

/// How often QEMU is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// How long the ends of both streams are waited for when QEMU says that it is over, and QEMU when they are.
const END: Duration = Duration::from_secs(60);
/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;

/// Which of the two directions ended, and how.
enum End {
    State(Result<(), BridgeError>),
    Answers(Result<(), BridgeError>),
}

/// A migration that both sides agreed to.
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Send,
    pub(crate) offer: &'a Offer,
    pub(crate) verdict: &'a Verdict,
    /// Whether devices are handed on before they are understood, and then whether the last of it has been: the guest may have
    /// been started.
    pub(crate) ahead: Option<Arc<AtomicBool>>,
    pub(crate) wire: &'a Wire,
}

impl Job<'_> {
    /// Sends what QEMU sends, and tells it what the destination says, until it is over.
    pub(crate) fn run(
        &self,
        machine: &mut Machine,
        qemu: &UnixStream,
        input: BufReader<Wire>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Summary, BridgeError> {
        let manifest = Arc::new(OnceLock::new());
        let (sender, ends) = channel();
        thread::scope(|scope| {
            let (to, from) = (sender.clone(), sender);
            let shared = &manifest;
            scope.spawn(move || drop(to.send(End::State(self.state(qemu, shared)))));
            scope.spawn(move || {
                let delivered = answers::deliver(input, qemu, shared);
                if delivered.is_err() {
                    // What nobody takes, nobody needs to send.
                    drop(qemu.shutdown(Shutdown::Both));
                }
                drop::<Result<_, _>>(Sender::send(&from, End::Answers(delivered)));
            });
            let watched = self.watch(machine, &ends, tell);
            if watched.is_err() {
                drop(qemu.shutdown(Shutdown::Both));
                self.wire.shut();
            }
            watched
        })
    }

    /// QEMU's stream as ours.
    fn state(
        &self,
        qemu: &UnixStream,
        manifest: &Arc<OnceLock<Manifest>>,
    ) -> Result<(), BridgeError> {
        let options = Options {
            producer: self.offer.contract.producer.clone(),
            // The guest stands still while it would be packed.
            compress: Compress::Nothing,
            reader: QemuReader::new().live(),
            contract: self.offer.contract.attributes.clone(),
            verdict: Some(self.verdict.clone()),
            manifest: Arc::clone(manifest),
            ahead: self.ahead.clone(),
            aborts: true,
            ..Options::default()
        };
        let out = BufWriter::with_capacity(BUFFER, self.wire.try_clone()?);
        let sent = to_vmstream(&mut &*qemu, out, &options);
        if sent.is_err() && !self.may_have_started() {
            drop(qemu.shutdown(Shutdown::Both));
        }
        sent?;
        Ok(())
    }

    /// Whether the destination's QEMU has all that it needs to start the guest. What fails then must not have it run here, too.
    fn may_have_started(&self) -> bool {
        self.ahead.as_ref().is_some_and(|over| over.load(Ordering::SeqCst))
    }

    /// Waits until the guest has gone, or cannot go.
    fn watch(
        &self,
        machine: &mut Machine,
        ends: &Receiver<End>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Summary, BridgeError> {
        let (mut state, mut answers) = (None, None);
        let mut over = None::<Instant>;
        loop {
            match ends.recv_timeout(LOOK) {
                Ok(End::State(ended)) => state = Some(ended),
                Ok(End::Answers(ended)) => answers = Some(ended),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
            let progress = machine.progress()?;
            let has_failed = |end: &Option<Result<(), BridgeError>>| matches!(end, Some(Err(_)));
            if progress.has_failed() || has_failed(&state) || has_failed(&answers) {
                let is_open = self.may_have_started() && answers.is_none();
                let patience = if is_open { END } else { Duration::from_secs(2) };
                let late = over.is_some_and(|over| over.elapsed() > patience);
                // What the other side and QEMU say of it comes last, and says most.
                if late || has_failed(&answers) && progress.has_failed() {
                    return Err(reason(progress, state, answers));
                }
                over.get_or_insert_with(Instant::now);
                continue;
            }
            tell(News::Progress(&progress));
            let is_whole = state.is_some() && answers.is_some();
            if progress.status == "completed" && is_whole {
                return Ok(Summary { progress });
            }
            if progress.status == "completed" || is_whole {
                let since = over.get_or_insert_with(Instant::now);
                if since.elapsed() > END {
                    return Err(reason(progress, state, answers));
                }
            }
            let is_bound = progress.is_postcopy() || self.may_have_started();
            if self.options.stop.load(Ordering::SeqCst) && !is_bound {
                return Err(BridgeError::Stopped);
            }
            let is_due = self.options.postcopy.is_some_and(|passes| progress.pass > passes);
            if is_due && progress.status == "active" {
                machine.start_postcopy()?;
            }
        }
    }
}
