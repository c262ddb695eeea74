//! The thread of a session: between command, client and clock.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bandsox_proto::chain;
use bandsox_proto::v2::{
    Ack, ErrorCode, Exec, Exit, Fault, Reply, Request, Signal, Started, StdinAck, StreamName,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::agent::Agent;
use crate::channel::{Connection, RequestError};
use crate::session::client::Client;
use crate::session::input::Input;
use crate::session::log::Log;
use crate::session::process::Process;
use crate::session::table::{Done, Session, Visitor};
use crate::session::{spawn, unstarted};

/// Stdin is acknowledged when this many more bytes of it were taken, or all that came.
const ACK_EVERY: u64 = 64 * 1024;

/// A session whose client was lost this long ago no longer stops its command for it.
const LONELY: Duration = Duration::from_secs(600);

/// Most signals of Linux.
const MAX_SIGNAL: u8 = 64;

/// A session and everything it holds.
pub(super) struct Runner<'a> {
    agent: &'a Agent,
    session: Arc<Session>,
    log: Log,
    input: Input,
    input_acknowledged: u64,
    /// Until its exit is known.
    process: Option<Process>,
    pid: u32,
    exit: Option<Exit>,
    client: Option<Client>,
    /// Since when there is no client.
    alone: Option<Instant>,
    detach: bool,
    buffer: Vec<u8>,
}

/// What may be ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Bell,
    Exit,
    Stdin,
    Stdout,
    Stderr,
    Client,
}

impl<'a> Runner<'a> {
    /// Runs a command with its first client, to its end. Returns the connection of the last client, if there is one.
    pub(super) fn start(
        agent: &'a Agent,
        session: Arc<Session>,
        connection: Connection,
        exec: Exec,
    ) -> Option<Connection> {
        let (process, exit) = match spawn::start(&agent.children, &exec) {
            Ok(running) => (Some(Process::new(running, &exec)), None),
            Err(error) => (None, Some(unstarted(error.exit_code, error.fault))),
        };
        let pid = process.as_ref().map_or(0, |process| process.pid.as_raw_nonzero().get());
        let pid = u32::try_from(pid).unwrap_or(0);
        session.set_pid(pid);
        let mut runner = Self {
            agent,
            session,
            log: Log::default(),
            input: Input::default(),
            input_acknowledged: 0,
            process,
            pid,
            exit,
            client: None,
            alone: None,
            detach: exec.detach,
            buffer: Vec::new(),
        };
        if !exec.stdin {
            runner.input.close();
        }
        // What the client may say of its command can be large; the command line is no longer needed.
        drop(exec);
        runner.attach(Visitor { connection, from_seq: 0 }, false);
        runner.run()
    }

    fn run(mut self) -> Option<Connection> {
        loop {
            self.serve_client();
            if self.is_over() {
                let id = self.session.id;
                let (log, exit) = (std::mem::take(&mut self.log), self.exit.clone()?);
                let done = Done { log, exit, stdin_offset: self.input.written() };
                match self.agent.sessions.finish(&self.session, done) {
                    Ok(()) => return self.client.take().and_then(|client| client.release(id)),
                    Err(done) => self.log = done.log,
                }
            }
            let ready = self.wait();
            self.take_visitors(&ready);
            self.attend_process(&ready);
            if ready.contains(&Source::Client) {
                self.hear_client();
            }
        }
    }

    /// Whether there is nothing left to do for anybody who is there.
    fn is_over(&self) -> bool {
        self.exit.is_some() && self.client.as_ref().is_none_or(Client::is_served)
    }

    /// Whether the oldest output may go to make room for new.
    fn may_drop(&self) -> bool {
        self.client.is_none()
            && (self.detach || self.alone.is_some_and(|since| since.elapsed() >= LONELY))
    }

    fn wait(&self) -> Vec<Source> {
        let mut fds: Vec<(Source, BorrowedFd<'_>, PollFlags)> =
            vec![(Source::Bell, self.session.bell.as_fd(), PollFlags::IN)];
        // Asked before `watch` asks, so that the moment cannot fall between the two.
        let lonely = self.alone.filter(|_| !self.may_drop() && !self.log.has_room());
        let mut until = lonely.and_then(|since| since.checked_add(LONELY));
        if let Some(process) = &self.process {
            self.watch(process, &mut fds);
            until = [until, process.next_time()].into_iter().flatten().min();
        }
        if let Some(client) = &self.client {
            let mut flags = PollFlags::IN;
            if client.has_outbound() {
                flags |= PollFlags::OUT;
            }
            fds.push((Source::Client, client.stream().as_fd(), flags));
        }
        let patience = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up, or the last fraction of a millisecond would be waited for in a busy loop.
        let patience = patience.map(|patience| patience.max(Duration::from_millis(1)));
        let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Vec::new(),
            // Only a lack of memory; the next turn may have some.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        let ready = fds.iter().zip(&polled).filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|((source, _, _), _)| *source).collect()
    }

    /// Which of the process's descriptors matter now.
    fn watch<'b>(&self, process: &'b Process, fds: &mut Vec<(Source, BorrowedFd<'b>, PollFlags)>) {
        if !process.has_ended() {
            fds.push((Source::Exit, process.pidfd.as_fd(), PollFlags::IN));
        }
        let room = self.log.has_room() || self.may_drop();
        let writing = !self.input.next().is_empty();
        for (source, stream) in
            [(Source::Stdout, &process.stdout), (Source::Stderr, &process.stderr)]
        {
            let mut flags = if room { PollFlags::IN } else { PollFlags::empty() };
            if writing && source == Source::Stdout && process.is_terminal() {
                flags |= PollFlags::OUT;
            }
            if let (Some(stream), false) = (stream, flags.is_empty()) {
                fds.push((source, stream.as_fd(), flags));
            }
        }
        if let (Some(stdin), true) = (&process.stdin, writing) {
            fds.push((Source::Stdin, stdin.as_fd(), PollFlags::OUT));
        }
    }

    fn attend_process(&mut self, ready: &[Source]) {
        let may_drop = self.may_drop();
        let Some(process) = &mut self.process else { return };
        if ready.contains(&Source::Exit) {
            process.on_exit(&self.agent.children);
        }
        process.on_time(&self.agent.children, Instant::now());
        // An exit is concluded only after a look at what was printed before it.
        let look = process.has_ended();
        for (source, stream) in
            [(Source::Stdout, StreamName::Stdout), (Source::Stderr, StreamName::Stderr)]
        {
            if !look && !ready.contains(&source) {
                continue;
            }
            loop {
                if may_drop {
                    self.log.make_room();
                }
                if !self.log.has_room() || !process.read(stream, &mut self.buffer, &mut self.log) {
                    break;
                }
                if !look {
                    break;
                }
            }
        }
        if self.pid != 0 && !process.has_ended() {
            process.write(&mut self.input);
        }
        if let Some(exit) = process.conclusion(&self.log, Instant::now()) {
            self.exit = Some(exit);
            self.session.over.store(true, Ordering::Relaxed);
            self.input.close();
            if let Some(process) = self.process.take() {
                process.let_go();
            }
        }
    }

    fn take_visitors(&mut self, ready: &[Source]) {
        if ready.contains(&Source::Bell) {
            for visitor in self.session.visitors() {
                self.attach(visitor, true);
            }
        }
    }

    fn attach(&mut self, visitor: Visitor, resumed: bool) {
        let Visitor { connection, from_seq } = visitor;
        if let Some(old) = self.client.take() {
            let message = "another client has attached to the session".to_owned();
            old.dismiss(&Reply::Error(Fault { code: ErrorCode::Replaced, message, errno: None }));
        }
        self.log.acknowledge(from_seq.min(self.log.next_seq()));
        self.input_acknowledged = self.input.written();
        let started = Started {
            session: self.session.id,
            pid: self.pid,
            stdin_offset: self.input_acknowledged,
            resumed,
            first_seq: self.log.first_seq(),
        };
        match Client::new(connection, from_seq, started) {
            Ok(client) => {
                self.client = Some(client);
                self.alone = None;
                self.session.set_attached(true);
            }
            Err(_) => self.detach_client(),
        }
    }

    fn detach_client(&mut self) {
        self.client = None;
        self.alone = Some(Instant::now());
        self.session.set_attached(false);
    }

    /// Sends the client what there is for it.
    fn serve_client(&mut self) {
        let Some(client) = &mut self.client else { return };
        let written = self.input.written();
        let fresh = written.saturating_sub(self.input_acknowledged);
        if fresh >= ACK_EVERY || (fresh > 0 && self.input.next().is_empty()) {
            self.input_acknowledged = written;
            client.say(&Reply::StdinAck(StdinAck { offset: written }));
        }
        if client.pump(&self.log, self.exit.as_ref()).is_err() {
            self.detach_client();
        }
    }

    /// Does what the client asks.
    fn hear_client(&mut self) {
        let Some(client) = &mut self.client else { return };
        if !client.fill() {
            return self.detach_client();
        }
        while let Some(client) = &mut self.client {
            match client.request() {
                Ok(Some(request)) => self.obey(request),
                Ok(None) => return,
                Err(RequestError::Decode(error)) => {
                    let fault =
                        Fault { code: ErrorCode::Invalid, message: chain(&error), errno: None };
                    client.say(&Reply::Error(fault));
                }
                Err(RequestError::Read(_)) => return self.detach_client(),
            }
        }
    }

    fn obey(&mut self, request: Request) {
        let taken = match request {
            Request::Stdin(stdin) => self.input.take(stdin.offset, &stdin.data),
            Request::StdinEof(eof) => self.input.end(eof.offset),
            Request::Ack(Ack { seq }) => {
                self.log.acknowledge(seq.min(self.log.next_seq()));
                Ok(())
            }
            Request::Resize(size) => {
                if let Some(process) = &self.process {
                    process.resize(size);
                }
                Ok(())
            }
            Request::Signal(Signal { number }) => {
                if let (Some(process), 1..=MAX_SIGNAL) = (&self.process, number) {
                    self.agent.children.signal_group(process.pid, number.into());
                }
                Ok(())
            }
            Request::Ping => {
                self.say(&Reply::Pong);
                Ok(())
            }
            Request::Exec(_)
            | Request::Attach(_)
            | Request::ListSessions
            | Request::Put(_)
            | Request::Get(_)
            | Request::Go
            | Request::Stat(_)
            | Request::Shutdown(_)
            | Request::Listen(_)
            | Request::Entry(_)
            | Request::Done(_)
            | Request::Error(_) => {
                let message = "a command runs on this connection".to_owned();
                self.say(&Reply::Error(Fault { code: ErrorCode::Invalid, message, errno: None }));
                Ok(())
            }
        };
        if let Err(error) = taken {
            let fault = Fault { code: ErrorCode::Invalid, message: error.to_string(), errno: None };
            if let Some(client) = self.client.take() {
                client.dismiss(&Reply::Error(fault));
            }
            self.detach_client();
            return;
        }
        if let (Some(process), false) =
            (&mut self.process, self.input.next().is_empty() && !self.input.at_end())
        {
            process.write(&mut self.input);
        }
    }

    fn say(&mut self, reply: &Reply) {
        if let Some(client) = &mut self.client {
            client.say(reply);
        }
    }
}
