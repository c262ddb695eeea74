//! The sessions there are, were, and are still remembered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bandsox_proto::ByteString;
use bandsox_proto::v2::{Exec, Exit, SessionId, SessionInfo, Sessions as List};
use rustix::event::{EventfdFlags, eventfd};

use crate::channel::Connection;
use crate::session::log::Log;

/// Most commands at once.
const MAX_RUNNING: usize = 128;

/// Most finished sessions whose output is kept, and most bytes of it.
const MAX_FINISHED: usize = 64;
/// See [`MAX_FINISHED`].
const MAX_FINISHED_BYTES: usize = 4 * 1024 * 1024;

/// Most ids of sessions that are gone, so that none is run again.
const MAX_GONE: usize = 4096;

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Every connection's thread meets every session's here.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    running: BTreeMap<SessionId, Arc<Session>>,
    finished: BTreeMap<SessionId, Arc<Finished>>,
    /// Oldest first.
    finished_order: VecDeque<SessionId>,
    gone: BTreeSet<SessionId>,
    gone_order: VecDeque<SessionId>,
}

/// A command that runs, as others see it.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    program: ByteString,
    started: Instant,
    /// Rung after something was put into the mailbox.
    pub(crate) bell: OwnedFd,
    /// The command has exited.
    pub(crate) over: AtomicBool,
    /// Clients' threads put connections in, the session's thread takes them out.
    mailbox: Mutex<Mailbox>,
}

#[derive(Default)]
struct Mailbox {
    visitors: Vec<Visitor>,
    pid: u32,
    attached: bool,
    /// Nobody takes visitors out any more.
    closed: bool,
}

/// A connection that wants to be attached.
pub(crate) struct Visitor {
    pub(crate) connection: Connection,
    pub(crate) from_seq: u64,
}

/// A command that is over.
pub(crate) struct Finished {
    pub(crate) log: Log,
    pub(crate) exit: Exit,
    pub(crate) pid: u32,
    pub(crate) stdin_offset: u64,
    program: ByteString,
    started: Instant,
}

/// What became of a request to run.
pub(crate) enum Entered {
    New(Arc<Session>),
    Known(Found),
    Full,
}

/// A session that is known.
pub(crate) enum Found {
    Running(Arc<Session>),
    Finished(Arc<Finished>),
    Gone,
}

impl Sessions {
    /// Makes a session, unless one of this id is or was there.
    pub(crate) fn enter(&self, id: SessionId, exec: &Exec) -> Entered {
        let mut table = self.lock();
        if let Some(found) = table.find(id) {
            return Entered::Known(found);
        }
        // One whose command is over is only still telling its client, who may know already and ask for another.
        let running =
            table.running.values().filter(|session| !session.over.load(Ordering::Relaxed));
        if running.count() >= MAX_RUNNING {
            return Entered::Full;
        }
        let Ok(bell) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) else {
            return Entered::Full;
        };
        let session = Arc::new(Session {
            id,
            program: exec.argv.first().cloned().unwrap_or_default(),
            started: Instant::now(),
            bell,
            over: AtomicBool::new(false),
            mailbox: Mutex::default(),
        });
        table.running.insert(id, Arc::clone(&session));
        Entered::New(session)
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<Found> {
        self.lock().find(id)
    }

    /// The command is over. Fails if somebody came in this moment: serve them first.
    pub(crate) fn finish(&self, session: &Session, done: Done) -> Result<(), Done> {
        let mut table = self.lock();
        let mut mailbox = session.lock();
        if !mailbox.visitors.is_empty() {
            return Err(done);
        }
        mailbox.closed = true;
        let Done { log, exit, stdin_offset } = done;
        let (program, started) = (session.program.clone(), session.started);
        let pid = mailbox.pid;
        let finished = Finished { log, exit, pid, stdin_offset, program, started };
        table.running.remove(&session.id);
        table.finished.insert(session.id, Arc::new(finished));
        table.finished_order.push_back(session.id);
        table.trim();
        Ok(())
    }

    /// The client has everything below `seq`; one beyond the exit's number means that it has the exit too.
    pub(crate) fn acknowledge(&self, id: SessionId, seq: u64) {
        let mut table = self.lock();
        if table.finished.get(&id).is_some_and(|finished| seq > finished.exit.seq) {
            table.forget(id);
        }
    }

    pub(crate) fn list(&self) -> List {
        let table = self.lock();
        let age = |started: Instant| u64::try_from(started.elapsed().as_millis()).unwrap_or(0);
        let running = table.running.values().map(|session| {
            let mailbox = session.lock();
            SessionInfo {
                session: session.id,
                program: session.program.clone(),
                pid: mailbox.pid,
                running: true,
                attached: mailbox.attached,
                age_ms: age(session.started),
            }
        });
        let finished = table.finished.iter().map(|(id, finished)| SessionInfo {
            session: *id,
            program: finished.program.clone(),
            pid: finished.pid,
            running: false,
            attached: false,
            age_ms: age(finished.started),
        });
        List { sessions: running.chain(finished).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session leaves.
pub(crate) struct Done {
    pub(crate) log: Log,
    pub(crate) exit: Exit,
    pub(crate) stdin_offset: u64,
}

impl Table {
    fn find(&self, id: SessionId) -> Option<Found> {
        if let Some(session) = self.running.get(&id) {
            return Some(Found::Running(Arc::clone(session)));
        }
        if let Some(finished) = self.finished.get(&id) {
            return Some(Found::Finished(Arc::clone(finished)));
        }
        self.gone.contains(&id).then_some(Found::Gone)
    }

    fn trim(&mut self) {
        loop {
            let bytes: usize = self.finished.values().map(|finished| finished.log.cost()).sum();
            if self.finished.len() <= MAX_FINISHED && bytes <= MAX_FINISHED_BYTES {
                return;
            }
            let Some(oldest) = self.finished_order.front().copied() else {
                return;
            };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, id: SessionId) {
        self.finished.remove(&id);
        self.finished_order.retain(|other| *other != id);
        if self.gone.insert(id) {
            self.gone_order.push_back(id);
        }
        while self.gone_order.len() > MAX_GONE {
            if let Some(oldest) = self.gone_order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
    }
}

impl Session {
    /// Gives a connection to the session's thread; gives it back if there is none any more.
    pub(crate) fn hand_over(
        &self,
        connection: Connection,
        from_seq: u64,
    ) -> Result<(), Connection> {
        let mut mailbox = self.lock();
        if mailbox.closed {
            return Err(connection);
        }
        mailbox.visitors.push(Visitor { connection, from_seq });
        drop(mailbox);
        // The counter cannot be full: it is emptied at every turn of the session's thread.
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
        Ok(())
    }

    /// Who has come since the last call.
    pub(crate) fn visitors(&self) -> Vec<Visitor> {
        rustix::io::read(&self.bell, &mut [0; 8]).ok();
        std::mem::take(&mut self.lock().visitors)
    }

    pub(crate) fn set_pid(&self, pid: u32) {
        self.lock().pid = pid;
    }

    pub(crate) fn set_attached(&self, attached: bool) {
        self.lock().attached = attached;
    }

    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
