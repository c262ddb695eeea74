//! One connection: which protocol it speaks, and what it asks for.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use bandsox_proto::chain;
use bandsox_proto::v2::{
    Ack, DecodeError, ErrorCode, Fault, Listen, Listening, Reply, Request, Shutdown, Stat, preamble,
};

use crate::agent::Agent;
use crate::channel::{Connection, RequestError};
use crate::console::say;
use crate::shutdown::Order;
use crate::{session, transfer, v1};

/// The deepest stack is a directory walk of 256 levels, which keeps its levels on the heap.
const STACK: usize = 256 * 1024;

/// Serves a connection on a thread of its own.
pub(crate) fn spawn(agent: &Arc<Agent>, stream: File) {
    let Some(admission) = agent.admit() else {
        return;
    };
    let agent = Arc::clone(agent);
    let thread = std::thread::Builder::new().name("connection".to_owned()).stack_size(STACK);
    let connection = Connection::new(stream, admission);
    if let Err(error) = thread.spawn(move || greet(&agent, connection)) {
        say(&format!("cannot start a thread: {}", chain(&error)));
    }
}

fn greet(agent: &Arc<Agent>, mut connection: Connection) {
    match connection.peek() {
        Ok(Some(b'{')) => v1::serve(agent, connection),
        Ok(Some(_)) if agent.v1_only => {}
        Ok(Some(_)) => {
            let heard = preamble::receive_client(&mut connection);
            let foreign = matches!(heard, Err(preamble::PreambleError::Foreign { .. }));
            if foreign || (&*connection.stream).write_all(&preamble::AGENT).is_err() {
                return;
            }
            if heard.is_ok() {
                serve(agent, connection);
            }
        }
        Ok(None) | Err(_) => {}
    }
}

/// Does what a client of protocol v2 asks, until it goes.
pub(crate) fn serve(agent: &Arc<Agent>, mut connection: Connection) {
    loop {
        let request = match connection.next_request() {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(RequestError::Decode(error)) => {
                let unknown = matches!(error, DecodeError::UnknownKind { .. });
                let code = if unknown { ErrorCode::Unsupported } else { ErrorCode::Invalid };
                let fault = Fault { code, message: chain(&error), errno: None };
                if connection.refuse(fault).is_err() {
                    return;
                }
                continue;
            }
            Err(RequestError::Read(_)) => return,
        };
        match answer(agent, connection, request) {
            Some(next) => connection = next,
            None => return,
        }
    }
}

/// Does one thing; gives the connection back if it can be used for another.
fn answer(agent: &Arc<Agent>, mut connection: Connection, request: Request) -> Option<Connection> {
    let result = match request {
        Request::Exec(exec) => return session::exec(agent, connection, exec),
        Request::Attach(attach) => return session::attach(agent, connection, attach),
        Request::Put(put) => return transfer::put(connection, &put),
        Request::Get(get) => return transfer::get(connection, &get),
        Request::Ack(Ack { seq }) => {
            if let Some(session) = connection.last_session {
                agent.sessions.acknowledge(session, seq);
            }
            Ok(())
        }
        Request::ListSessions => connection.send(&Reply::Sessions(agent.sessions.list())),
        Request::Stat(Stat { path, follow }) => match bandsox_files::stat(path.as_path(), follow) {
            Ok(found) => connection.send(&Reply::StatReply(found)),
            Err(error) => connection.refuse(bandsox_files::fault(&error)),
        },
        Request::Ping => connection.send(&Reply::Pong),
        Request::Shutdown(wanted) => shutdown(agent, &connection, wanted),
        Request::Listen(Listen { port }) => listen(agent, &connection, port),
        // For a command that is over by now, or about a transfer that is.
        Request::Stdin(_)
        | Request::StdinEof(_)
        | Request::Resize(_)
        | Request::Signal(_)
        | Request::Done(_)
        | Request::Error(_) => Ok(()),
        Request::Go | Request::Entry(_) => {
            // Data may follow that is no frame: nothing after this can be understood.
            let message = format!("message {:?} is out of place", request.kind());
            connection.refuse(Fault { code: ErrorCode::Invalid, message, errno: None }).ok()?;
            connection.drain();
            return None;
        }
    };
    result.is_ok().then_some(connection)
}

fn shutdown(agent: &Agent, connection: &Connection, wanted: Shutdown) -> io::Result<()> {
    let order = Order { mode: wanted.mode, grace_ms: wanted.grace_ms };
    match &agent.shutdown {
        Some(orders) => {
            connection.send(&Reply::Pong)?;
            // The thread that takes the guest down sleeps on signals.
            if orders.send(order).is_ok() {
                crate::signals::wake_reaper();
            }
            Ok(())
        }
        None => connection.refuse(unsupported("this agent is not the guest's init")),
    }
}

fn listen(agent: &Agent, connection: &Connection, port: u32) -> io::Result<()> {
    let Some(ports) = &agent.ports else {
        return connection.refuse(unsupported("this agent does not listen on vsock"));
    };
    match ports.change(port) {
        Ok(()) => connection.send(&Reply::Listening(Listening { port })),
        Err(error) => {
            let message = format!("cannot listen on vsock port {port}: {error}");
            let errno = error.raw_os_error();
            connection.refuse(Fault { code: ErrorCode::Io, message, errno })
        }
    }
}

fn unsupported(message: &str) -> Fault {
    Fault { code: ErrorCode::Unsupported, message: message.to_owned(), errno: None }
}
