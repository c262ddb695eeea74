//! Commands, and the clients that come and go while they run.
//!
//! ```text
//!             Exec                    command exits, output drained
//!   (unknown) ────▶ Running ───────────────────────────────────────▶ Finished ─── exit acknowledged,
//!                    ▲   │ its thread serves one client at a time,      │          or too many ──▶ Gone
//!                    └───┘ or none                                      ▼
//!                 Attach, Exec                                  Attach, Exec: the rest
//! ```
//!
//! A running session has one thread, which began as the thread of the connection that asked for it. Another connection
//! that attaches is handed to that thread; when the command is over, the thread goes on as that connection's.

mod client;
mod input;
mod log;
mod outlet;
mod process;
mod program;
mod runner;
mod spawn;
mod table;
mod terminal;
mod users;

use std::io::Write;
use std::sync::Arc;

use bandsox_proto::v2::{Attach, ErrorCode, Exec, Exit, Fault, Reply, SessionId, Started};

use crate::agent::Agent;
use crate::channel::Connection;
use runner::Runner;
use table::{Entered, Finished, Found};

pub(crate) use table::Sessions;

/// Runs a command, unless its session is known. Gives the connection back when it is free for another request.
pub(crate) fn exec(agent: &Arc<Agent>, connection: Connection, exec: Exec) -> Option<Connection> {
    if agent.stopping.load(std::sync::atomic::Ordering::Relaxed) {
        return refuse(connection, ErrorCode::ShuttingDown, "the guest is going down");
    }
    if exec.argv.is_empty() {
        return refuse(connection, ErrorCode::Invalid, "there is no command to run");
    }
    let id = exec.session;
    match agent.sessions.enter(id, &exec) {
        Entered::New(session) => Runner::start(agent, session, connection, exec),
        Entered::Full => refuse(connection, ErrorCode::Limit, "too many commands run at once"),
        Entered::Known(found) => join(agent, connection, found, id, 0),
    }
}

/// Goes on with a session that another connection began.
pub(crate) fn attach(
    agent: &Arc<Agent>,
    connection: Connection,
    attach: Attach,
) -> Option<Connection> {
    match agent.sessions.find(attach.session) {
        Some(found) => join(agent, connection, found, attach.session, attach.from_seq),
        None => refuse(connection, ErrorCode::UnknownSession, "no session has this id"),
    }
}

fn join(
    agent: &Agent,
    mut connection: Connection,
    mut found: Found,
    id: SessionId,
    from_seq: u64,
) -> Option<Connection> {
    if let Found::Running(session) = &found {
        match session.hand_over(connection, from_seq) {
            Ok(()) => return None,
            // It has finished this moment.
            Err(back) => connection = back,
        }
        found = agent.sessions.find(id)?;
    }
    match found {
        Found::Finished(finished) => {
            connection.last_session = Some(id);
            replay(&connection, id, &finished, from_seq).ok()?;
            Some(connection)
        }
        Found::Running(_) | Found::Gone => refuse(
            connection,
            ErrorCode::SessionGone,
            "the session is over, and what it printed is no longer kept",
        ),
    }
}

/// Says what is left of a finished session.
fn replay(
    connection: &Connection,
    id: SessionId,
    finished: &Finished,
    from_seq: u64,
) -> std::io::Result<()> {
    let first_seq = finished.log.first_seq();
    connection.send(&Reply::Started(Started {
        session: id,
        pid: finished.pid,
        stdin_offset: finished.stdin_offset,
        resumed: true,
        first_seq,
    }))?;
    let mut seq = from_seq.max(first_seq);
    let mut frame = Vec::new();
    while finished.log.encode(seq, &mut frame) {
        (&*connection.stream).write_all(&frame)?;
        frame.clear();
        seq = seq.saturating_add(1);
    }
    connection.send(&Reply::Exit(finished.exit.clone()))
}

fn refuse(connection: Connection, code: ErrorCode, message: &str) -> Option<Connection> {
    let fault = Fault { code, message: message.to_owned(), errno: None };
    connection.refuse(fault).ok().map(|()| connection)
}

/// An exit of a command that never ran.
fn unstarted(code: u8, fault: Fault) -> Exit {
    Exit { code: Some(code), signal: None, timeout: false, seq: 0, error: Some(fault) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;

    use bandsox_proto::v2::{FrameReader, Request, preamble};

    use super::*;
    use crate::children::Children;

    #[test]
    fn a_guest_that_goes_down_starts_nothing() {
        let agent = Arc::new(Agent::new(Children::default(), None, None, false));
        agent.stopping.store(true, Ordering::Relaxed);
        let (mut client, theirs) = UnixStream::pair().expect("a pair of sockets");
        crate::server::spawn(&agent, File::from(OwnedFd::from(theirs)));
        let exec = Exec::new(SessionId([1; 16]), vec!["true".into()]);

        client.write_all(&preamble::CLIENT).expect("writes");
        client.write_all(&Request::Exec(exec).to_frame().expect("fits")).expect("writes");

        preamble::receive_agent(&mut client).expect("it answers");
        let mut frames = FrameReader::new(client);
        let frame = frames.read().expect("a frame").expect("not the end");
        let reply = Reply::decode(frame.kind, frame.payload).expect("a reply");
        assert!(
            matches!(&reply, Reply::Error(fault) if fault.code == ErrorCode::ShuttingDown),
            "{reply:?}"
        );
    }
}
