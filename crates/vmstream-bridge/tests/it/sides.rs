//! A sender and a receiver, beside their QEMUs.

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmstream::contract::Comparison;
use vmstream_bridge::{
    Address, BridgeError, News, Outcome, Progress, Receive, Send, Summary, receive, send,
};

/// A receiver that waits.
pub(crate) struct Receiver {
    pub(crate) address: Address,
    thread: JoinHandle<(Result<Outcome<String>, BridgeError>, Option<Comparison>)>,
}

impl Receiver {
    /// Starts one beside the QEMU of that monitor.
    pub(crate) fn start(qmp: &Path) -> Self {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let options = Receive { qmp: qmp.to_owned(), listen };
        let (listening, address) = channel();
        let thread = thread::spawn(move || {
            let mut verdict = None;
            let ended = receive(&options, &mut |news| match news {
                News::Listening(address) => listening.send(address.clone()).expect("it is awaited"),
                News::Verdict(comparison) => verdict = Some(comparison.clone()),
                other => eprintln!("receiver: {other:?}"),
            });
            (ended, verdict)
        });
        let address = address.recv_timeout(Duration::from_secs(60)).expect("it listens");
        Self { address, thread }
    }

    /// How it ended, and what its verdict was.
    pub(crate) fn end(self) -> (Result<Outcome<String>, BridgeError>, Option<Comparison>) {
        self.thread.join().expect("it does not panic")
    }
}

/// What to send there, by QEMU's own settings.
pub(crate) fn plain(qmp: &Path, to: &Address) -> Send {
    Send {
        qmp: qmp.to_owned(),
        to: to.clone(),
        only_asks: false,
        postcopy: None,
        max_bandwidth: None,
        downtime_limit: None,
    }
}

/// How sending ended, what the verdict was, and which states it went through.
pub(crate) struct Sent {
    pub(crate) ended: Result<Outcome<Summary>, BridgeError>,
    pub(crate) verdict: Option<Comparison>,
    pub(crate) progress: Vec<Progress>,
}

pub(crate) fn sent(options: &Send) -> Sent {
    let (mut verdict, mut progress) = (None, Vec::new());
    let ended = send(options, &mut |news| match news {
        News::Verdict(comparison) => verdict = Some(comparison.clone()),
        News::Progress(now) => progress.push(now.clone()),
        other => eprintln!("sender: {other:?}"),
    });
    Sent { ended, verdict, progress }
}

/// An error and its causes in one line.
pub(crate) fn told(error: &BridgeError) -> String {
    let causes =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
