//! Who comes to a receiver. All are heard at the same time, so that none who says nothing keeps the others out.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::error::BridgeError;
use crate::listener::Listener;
use crate::offer::Offer;
use crate::wire::Wire;

/// How long somebody may take to say what he has: a sender knows it before it connects.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many are heard at the same time. When one more comes, who has been heard for longest is sent away.
const HEARD: usize = 16;
/// Bytes of the stream that are read at once.
const BUFFER: usize = 256 << 10;

/// Somebody who made an offer.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) wire: Wire,
    /// What comes after the offer.
    pub(crate) input: BufReader<Wire>,
    pub(crate) offer: Offer,
}

/// The number of one who was heard, and what came of it.
type Heard = (u64, Result<Caller, BridgeError>);

/// Where senders come in. With it, all end whose offer was not taken.
pub(crate) struct Door {
    listener: Listener,
    /// Who is being heard, by number.
    inside: VecDeque<(u64, Wire)>,
    last: u64,
    heard: Receiver<Heard>,
    hears: Sender<Heard>,
    /// Rings when somebody was heard.
    bell: UnixStream,
    rings: UnixStream,
}

impl Door {
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        let (hears, heard) = channel();
        let (bell, rings) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok(Self { listener, inside: VecDeque::new(), last: 0, heard, hears, bell, rings })
    }

    /// The next one who made an offer, or could not.
    pub(crate) fn next(&mut self) -> io::Result<Result<Caller, BridgeError>> {
        loop {
            if let Ok((number, heard)) = self.heard.try_recv() {
                self.inside.retain(|(other, _)| *other != number);
                return Ok(heard);
            }
            let mut waited = [&self.bell as &dyn std::os::fd::AsFd, &self.listener]
                .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
            match poll(&mut waited, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            // What rang is in the channel.
            drop((&self.bell).read(&mut [0; HEARD]));
            self.let_in()?;
        }
    }

    fn let_in(&mut self) -> io::Result<()> {
        let wire = match self.listener.accept() {
            Ok(wire) => wire,
            Err(error) => {
                use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                let is_gone = [ConnectionAborted, Interrupted, WouldBlock].contains(&error.kind());
                return if is_gone { Ok(()) } else { Err(error) };
            }
        };
        if self.inside.len() >= HEARD
            && let Some((_, oldest)) = self.inside.pop_front()
        {
            oldest.shut();
        }
        self.last = self.last.wrapping_add(1);
        let number = self.last;
        self.inside.push_back((number, wire.try_clone()?));
        let (hears, mut rings) = (self.hears.clone(), self.rings.try_clone()?);
        thread::Builder::new().name("offer".to_owned()).spawn(move || {
            // If nobody waits for it any more, the door is closed.
            drop(hears.send((number, hear(wire))));
            drop(rings.write(&[0]));
        })?;
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        for (_, wire) in &self.inside {
            wire.shut();
        }
    }
}

fn hear(wire: Wire) -> Result<Caller, BridgeError> {
    let mut input = BufReader::with_capacity(BUFFER, wire.try_clone()?);
    let offer = Wire::hear(&mut input, PATIENCE, Offer::read)?;
    Ok(Caller { wire, input, offer })
}
