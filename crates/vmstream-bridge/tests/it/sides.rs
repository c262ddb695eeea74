//! A sender and a receiver, beside their QEMUs.

use std::io::{self, Read as _, Write as _};
use std::marker;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmstream::Event;
use vmstream::contract::Comparison;
use vmstream::message::Note;
use vmstream_bridge::{
    Address, BridgeError, News, Outcome, Progress, Receive, Send, Summary, receive, send,
};

/// What to receive with, on any port that is free.
pub(crate) fn usual(qmp: &Path) -> Receive {
    let listen = "127.0.0.1:0".parse().expect("an address");
    Receive { qmp: qmp.to_owned(), listen, watch: None, from_records: false }
}

/// How receiving ended, and what the verdict was.
pub(crate) type Received = (Result<Outcome<String>, BridgeError>, Option<Comparison>);

/// A receiver that waits.
pub(crate) struct Receiver {
    pub(crate) address: Address,
    thread: JoinHandle<Received>,
}

impl Receiver {
    /// Starts one beside the QEMU of that monitor.
    pub(crate) fn start(qmp: &Path) -> Self {
        Self::watched(qmp, None)
    }

    /// Starts one that waits at a socket.
    pub(crate) fn at(qmp: &Path, socket: &Path) -> Self {
        Self::of(Receive { listen: Address::Unix(socket.into()), ..usual(qmp) })
    }

    /// The same, with onlookers at that socket.
    pub(crate) fn watched(qmp: &Path, watch: Option<&Path>) -> Self {
        Self::of(Receive { watch: watch.map(Path::to_owned), ..usual(qmp) })
    }

    /// One that loads what has been read, and nothing else.
    pub(crate) fn careful(qmp: &Path) -> Self {
        Self::of(Receive { from_records: true, ..usual(qmp) })
    }

    fn of(options: Receive) -> Self {
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

    /// Waits for its end.
    pub(crate) fn end(self) -> Received {
        self.thread.join().expect("it does not panic")
    }
}

/// What a network does to a stream behind so many bytes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Ends,
    ChangesABit,
}

/// A network between sender and receiver that does not carry everything. The receiver is behind the address.
pub(crate) fn network(to: &Address, after: usize, fault: Fault) -> Address {
    between(to, move |mut near, mut far| {
        let (mut back, mut there) = clones(&near, &far);
        // Either side may end it.
        thread::spawn(move || drop(io::copy(&mut back, &mut there)));
        drop(io::copy(&mut (&mut near).take(after as u64), &mut far));
        if let Fault::ChangesABit = fault {
            let mut byte = [0];
            if near.read_exact(&mut byte).is_ok() {
                drop(far.write_all(&[byte[0] ^ 1]));
            }
            drop(io::copy(&mut near, &mut far));
        }
        drop((near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both)));
    })
}

/// The address of a network that carries what a sender and the receiver behind `to` say as `carry` does.
fn between(
    to: &Address,
    carry: impl FnOnce(TcpStream, TcpStream) + marker::Send + 'static,
) -> Address {
    let Address::Tcp(to) = to.clone() else { panic!("{to} is no address of a network") };
    let listener = TcpListener::bind("127.0.0.1:0").expect("it can listen");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        let (near, _) = listener.accept().expect("a sender");
        carry(near, TcpStream::connect(to).expect("a receiver"));
    });
    Address::Tcp(address)
}

/// For the way back: from where, and where to.
fn clones(near: &TcpStream, far: &TcpStream) -> (TcpStream, TcpStream) {
    (far.try_clone().expect("a clone"), near.try_clone().expect("a clone"))
}

/// A way to the receiver at a socket, on which a sender is gone as soon as it has said something whole.
pub(crate) fn hangs_up(to: &Path) -> Address {
    let path = to.with_extension("hangs-up");
    let listener = UnixListener::bind(&path).expect("it can listen");
    let to = to.to_owned();
    thread::spawn(move || {
        let (near, _) = listener.accept().expect("a sender");
        let far = UnixStream::connect(to).expect("a receiver");
        let mut reader = vmstream::Reader::new(Tee(&near, &far));
        while reader.next_event().expect("a stream").is_some() {}
    });
    Address::Unix(path)
}

/// A network that ends as soon as the destination's QEMU has all that it needs, and that lets nothing back from when it first got
/// something ahead: nobody at the source learns that the guest has arrived.
pub(crate) fn ends_behind_the_last(to: &Address) -> Address {
    between(to, |near, far| {
        let (mut back, mut there) = clones(&near, &far);
        let silent = Arc::new(AtomicBool::new(false));
        let mute = Arc::clone(&silent);
        thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = back.read(&mut some) {
                if !mute.load(Ordering::SeqCst) {
                    there.write_all(&some[..count]).expect("the sender listens");
                }
            }
        });
        for _offer_and_state in 0..2 {
            let mut reader = vmstream::Reader::new(Tee(&near, &far));
            while let Ok(Some(event)) = reader.next_event() {
                let is_ahead = |note: &Note| note.name == "qemu-ahead";
                if matches!(&event, Event::Note(note) if is_ahead(note)) {
                    silent.store(true, Ordering::SeqCst);
                }
                if vmstream_transcode::is_last_ahead(&event) {
                    drop((near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Write)));
                    return;
                }
            }
        }
    })
}

/// Gives what it reads to somebody else, too.
struct Tee<'a, S>(&'a S, &'a S);

impl<'a, S> io::Read for Tee<'a, S>
where
    &'a S: io::Read + io::Write,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// What to send there, by QEMU's own settings.
pub(crate) fn plain(qmp: &Path, to: &Address) -> Send {
    Send {
        qmp: qmp.to_owned(),
        to: to.clone(),
        only_asks: false,
        postcopy: None,
        stop: Arc::default(),
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
