//! A thread that drives a [`Mux`] over a descriptor.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::mux::{CONTROL, Event, Mux, Role, StreamId};

/// Bytes waiting for the line above which no stream is read further, so that a bulk transfer leaves a gap for others.
const BACKLOG: usize = 16 * 1024;

const TICK: Duration = Duration::from_secs(1);

/// How long to leave a line alone whose other end is not connected.
const HANGUP_PAUSE: Duration = Duration::from_millis(200);

/// The thread needs a few kilobytes; an agent must stay small.
const STACK: usize = 128 * 1024;

/// A stream that came without being asked for.
#[derive(Debug)]
pub enum Arrival {
    /// The control stream; comes again each time the link comes up.
    Control(UnixStream),
    /// A stream that the peer opened.
    Stream(UnixStream),
}

/// What it means that the line says "hung up".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The other end is gone for good (a socket).
    Ends,
    /// The other end is not there yet, or not at present (a virtio-serial port, a UART).
    Waits,
}

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer has said nothing by the deadline, or does not answer.
    #[error("nobody answers on the serial line")]
    NoAnswer,
    /// The peer refused, or has too many streams.
    #[error("the other end of the serial line refused the stream")]
    Refused,
    /// The line is gone.
    #[error("the serial line is closed")]
    Closed,
    /// No socket pair could be made.
    #[error("cannot make a socket pair")]
    Socket(#[source] io::Error),
}

/// A running mux. The thread ends when the line does, or when the last `Link` is dropped and all its streams are closed.
#[derive(Clone, Debug)]
pub struct Link {
    wishes: Sender<Wish>,
    waker: std::sync::Arc<UnixStream>,
}

type Opened = SyncSender<Result<UnixStream, OpenError>>;

#[derive(Debug)]
struct Wish {
    opened: Opened,
}

impl Link {
    /// Starts driving `line`, which is made non-blocking. `arrived` runs on the driver's thread and must not block.
    ///
    /// `epoch` is a random number, different at every start.
    ///
    /// # Errors
    ///
    /// If the descriptor cannot be made non-blocking, or thread or sockets cannot be made.
    pub fn start(
        line: OwnedFd,
        role: Role,
        hangup: Hangup,
        epoch: u32,
        arrived: impl FnMut(Arrival) + Send + 'static,
    ) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&line)?;
        rustix::fs::fcntl_setfl(&line, flags | rustix::fs::OFlags::NONBLOCK)?;
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (wishes, receiver) = mpsc::channel();
        let driver = Driver {
            line,
            hangup,
            mux: Mux::new(role, epoch),
            streams: BTreeMap::new(),
            woken,
            orphaned: false,
            wishes: receiver,
            waiting: VecDeque::new(),
            opening: BTreeMap::new(),
            next_tick: Instant::now() + TICK,
            arrived: Box::new(arrived),
        };
        let thread = std::thread::Builder::new().name("serial".to_owned()).stack_size(STACK);
        thread.spawn(move || driver.run())?;
        Ok(Self { wishes, waker: std::sync::Arc::new(waker) })
    }

    /// Opens a stream, waiting until the peer is there and takes it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(&self, deadline: Instant) -> Result<UnixStream, OpenError> {
        let (opened, answer) = mpsc::sync_channel(1);
        self.wishes.send(Wish { opened }).map_err(|_| OpenError::Closed)?;
        // A full waker has been rung already.
        (&*self.waker).write_all(&[1]).ok();
        let patience = deadline.saturating_duration_since(Instant::now());
        match answer.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(OpenError::NoAnswer),
            Err(RecvTimeoutError::Disconnected) => Err(OpenError::Closed),
        }
    }
}

/// Our end of a stream's socket pair.
struct Local {
    socket: UnixStream,
    /// Came over the line, not yet written to the socket; the window bounds it.
    inbound: VecDeque<u8>,
    /// The user may still write.
    reading: bool,
    /// The peer has said Fin; shut the socket down once `inbound` is empty.
    finished: bool,
    shut: bool,
}

struct Driver {
    line: OwnedFd,
    hangup: Hangup,
    mux: Mux,
    streams: BTreeMap<StreamId, Local>,
    woken: UnixStream,
    /// Every [`Link`] has been dropped; `woken` is then readable for ever and no longer asked.
    orphaned: bool,
    wishes: Receiver<Wish>,
    /// Asked for, link not up yet.
    waiting: VecDeque<Opened>,
    /// Opened, not accepted yet.
    opening: BTreeMap<StreamId, Opened>,
    next_tick: Instant,
    arrived: Box<dyn FnMut(Arrival) + Send>,
}

/// The line is gone.
struct Over;

impl Driver {
    fn run(mut self) {
        let mut buffer = vec![0; BACKLOG];
        while self.turn(&mut buffer).is_ok() {}
        for opened in self.waiting.into_iter().chain(self.opening.into_values()) {
            opened.send(Err(OpenError::Closed)).ok();
        }
    }

    /// Waits for something to do, and does it.
    fn turn(&mut self, buffer: &mut [u8]) -> Result<(), Over> {
        let ready = self.wait().map_err(|_| Over)?;
        if ready.woken {
            self.take_wishes(buffer);
        }
        if ready.line_in {
            self.read_line(buffer)?;
        }
        self.handle_events();
        for id in &ready.sockets {
            self.write_socket(*id);
        }
        // A frame of each in turn, until the line has enough to do: fair to a prompt beside a bulk transfer, and few
        // writes for that transfer alone.
        let mut sources = ready.sockets;
        while !sources.is_empty() {
            sources.retain(|id| self.read_socket(*id, buffer));
        }
        if Instant::now() >= self.next_tick {
            self.mux.tick();
            self.next_tick = Instant::now() + TICK;
        }
        self.write_line()?;
        let idle = self.streams.keys().all(|id| *id == CONTROL) && self.opening.is_empty();
        if self.orphaned && idle { Err(Over) } else { Ok(()) }
    }

    fn wait(&self) -> Result<Ready, Errno> {
        let room = self.mux.pending().len() < BACKLOG;
        // A peer that asks without end and takes no answers is not listened to.
        let listening = self.mux.pending().len() < 4 * BACKLOG;
        let mut line_flags = if listening { PollFlags::IN } else { PollFlags::empty() };
        if !self.mux.pending().is_empty() {
            line_flags |= PollFlags::OUT;
        }
        let mut fds =
            vec![PollFd::new(&self.line, line_flags), PollFd::new(&self.woken, PollFlags::IN)];
        let mut ids = Vec::new();
        for (id, local) in &self.streams {
            let mut flags = PollFlags::empty();
            if local.reading && room && self.mux.credit(*id) > 0 {
                flags |= PollFlags::IN;
            }
            if !local.inbound.is_empty() {
                flags |= PollFlags::OUT;
            }
            // A socket that is polled for nothing still reports a hang-up, over and over.
            if !flags.is_empty() {
                ids.push(*id);
                fds.push(PollFd::from_borrowed_fd(local.socket.as_fd(), flags));
            }
        }
        let patience = self.next_tick.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut fds, self.mux.needs_tick().then_some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let mut events = fds.iter().map(PollFd::revents);
        let line = events.next().unwrap_or(PollFlags::empty());
        let woken = if self.orphaned {
            PollFlags::empty()
        } else {
            events.next().unwrap_or(PollFlags::empty())
        };
        let sockets = ids.into_iter().zip(events).filter(|(_, flags)| !flags.is_empty());
        Ok(Ready {
            line_in: line.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            woken: !woken.is_empty(),
            sockets: sockets.map(|(id, _)| id).collect(),
        })
    }

    fn take_wishes(&mut self, buffer: &mut [u8]) {
        self.orphaned |= matches!(self.woken.read(buffer), Ok(0));
        while let Ok(Wish { opened }) = self.wishes.try_recv() {
            self.waiting.push_back(opened);
        }
        self.open_waiting();
    }

    fn open_waiting(&mut self) {
        while self.mux.is_up() {
            let Some(opened) = self.waiting.pop_front() else { return };
            match self.mux.open() {
                Some(id) => drop(self.opening.insert(id, opened)),
                None => drop(opened.send(Err(OpenError::Refused))),
            }
        }
    }

    fn read_line(&mut self, buffer: &mut [u8]) -> Result<(), Over> {
        match rustix::io::read(&self.line, &mut *buffer) {
            Ok(0) if self.hangup == Hangup::Ends => Err(Over),
            Ok(0) => {
                std::thread::sleep(HANGUP_PAUSE);
                Ok(())
            }
            Ok(count) => {
                self.mux.receive(buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) if self.hangup == Hangup::Waits => {
                std::thread::sleep(HANGUP_PAUSE);
                Ok(())
            }
            Err(_) => Err(Over),
        }
    }

    fn write_line(&mut self) -> Result<(), Over> {
        while !self.mux.pending().is_empty() {
            match rustix::io::write(&self.line, self.mux.pending()) {
                Ok(count) => self.mux.sent(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) if self.hangup == Hangup::Waits => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.mux.next_event() {
            match event {
                Event::Up => {
                    if let Ok(user) = self.adopt(CONTROL) {
                        (self.arrived)(Arrival::Control(user));
                    }
                    self.open_waiting();
                }
                Event::Down => {
                    self.streams.clear();
                    for (_, opened) in std::mem::take(&mut self.opening) {
                        self.waiting.push_back(opened);
                    }
                }
                Event::Opened(id) => match self.adopt(id) {
                    Ok(user) => {
                        self.mux.accept(id);
                        (self.arrived)(Arrival::Stream(user));
                    }
                    Err(_) => self.mux.reset(id),
                },
                Event::Accepted(id) => self.hand_over(id),
                Event::Data(id, data) => {
                    if let Some(local) = self.streams.get_mut(&id) {
                        local.inbound.extend(data);
                        self.write_socket(id);
                    }
                }
                Event::Fin(id) => {
                    if let Some(local) = self.streams.get_mut(&id) {
                        local.finished = true;
                        self.write_socket(id);
                    }
                }
                Event::Reset(id) => {
                    self.streams.remove(&id);
                    if let Some(opened) = self.opening.remove(&id) {
                        opened.send(Err(OpenError::Refused)).ok();
                    }
                }
            }
        }
    }

    /// Makes the socket pair of a stream; returns the user's end.
    fn adopt(&mut self, id: StreamId) -> io::Result<UnixStream> {
        let (socket, user) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let local =
            Local { socket, inbound: VecDeque::new(), reading: true, finished: false, shut: false };
        self.streams.insert(id, local);
        Ok(user)
    }

    fn hand_over(&mut self, id: StreamId) {
        let Some(opened) = self.opening.remove(&id) else { return };
        let result = self.adopt(id).map_err(OpenError::Socket);
        let failed = result.is_err();
        if opened.send(result).is_err() || failed {
            self.streams.remove(&id);
            self.mux.reset(id);
        }
    }

    fn write_socket(&mut self, id: StreamId) {
        let Some(local) = self.streams.get_mut(&id) else { return };
        while !local.inbound.is_empty() {
            let (front, _) = local.inbound.as_slices();
            match local.socket.write(front) {
                Ok(count) => {
                    local.inbound.drain(..count);
                    self.mux.consumed(id, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.streams.remove(&id);
                    self.mux.reset(id);
                    return;
                }
            }
        }
        if local.finished && !local.shut {
            local.shut = true;
            local.socket.shutdown(std::net::Shutdown::Write).ok();
            self.drop_if_over(id);
        }
    }

    /// Passes one frame on; `false` if there is nothing more to pass on now.
    fn read_socket(&mut self, id: StreamId, buffer: &mut [u8]) -> bool {
        let limit = self.mux.credit(id).min(buffer.len()).min(crate::mux::MAX_DATA);
        let room = self.mux.pending().len() < BACKLOG;
        let Some(local) = self.streams.get_mut(&id).filter(|local| local.reading && room) else {
            return false;
        };
        let Some(space) = buffer.get_mut(..limit).filter(|space| !space.is_empty()) else {
            return false;
        };
        match local.socket.read(space) {
            Ok(0) => {
                local.reading = false;
                self.mux.finish(id);
                self.drop_if_over(id);
                false
            }
            Ok(count) => {
                let data = space.get(..count).unwrap_or_default();
                self.mux.send(id, data);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.streams.remove(&id);
                self.mux.reset(id);
                false
            }
        }
    }

    fn drop_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(|local| !local.reading && local.shut) {
            self.streams.remove(&id);
        }
    }
}

struct Ready {
    line_in: bool,
    woken: bool,
    sockets: Vec<StreamId>,
}
