//! Protocol v2's files, at the guest's end.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::Duration;

use bandsox_files::{
    Limits, Owners, Parents, ReceiveOptions, SendError, SendOptions, Source, Staging, Target,
    fault, receive, send,
};
use bandsox_proto::v2::{
    Done, ErrorCode, Fault, FrameReader, Get, Put, Ready, Reply, Request, Transfer,
};

use crate::channel::{Connection, readable};

/// Small files come by the hundred in one read.
const READ_AHEAD: usize = 128 * 1024;

/// In the guest everything is kept: root sends to root.
const RECEIVE: ReceiveOptions = ReceiveOptions {
    tree: true,
    owners: Owners::Keep,
    mode_mask: 0o7777,
    staging: Staging::Replacing,
    limits: Limits::NONE,
};

/// Files from the client.
pub(crate) fn put(mut connection: Connection, put: &Put) -> Option<Connection> {
    let parents = if put.parents { Parents::Create } else { Parents::Require };
    let inside = put.name.as_ref().map(|name| name.as_bytes());
    let target = match Target::resolve(put.path.as_path(), inside, parents) {
        Ok(target) => target,
        Err(error) => return connection.refuse(fault(&error)).ok().map(|()| connection),
    };
    let ready = Ready { path: target.path().clone(), is_dir: target.is_dir() };
    connection.send(&Reply::Ready(ready)).ok()?;
    connection.read_ahead(READ_AHEAD);
    let options = ReceiveOptions { tree: put.tree, ..RECEIVE };
    let mut frames = FrameReader::new(&mut connection);
    match receive(&mut frames, &target, options, &mut |_| ControlFlow::Continue(())) {
        Ok(done) => {
            connection.read_ahead_no_more();
            connection.send(&Reply::Done(done)).ok()?;
            Some(connection)
        }
        Err(error) => {
            // More data may be on its way, so that this is the last thing said here.
            connection.refuse(fault(&error)).ok()?;
            connection.drain();
            None
        }
    }
}

/// Files to the client.
pub(crate) fn get(mut connection: Connection, get: &Get) -> Option<Connection> {
    let opened = Source::open(get.path.as_path()).and_then(|source| {
        if source.is_dir() && !get.tree {
            return Err(SendError::IsADirectory { path: get.path.clone() });
        }
        Ok(source)
    });
    let source = match opened {
        Ok(source) => source,
        Err(error) => return connection.refuse(fault(&error)).ok().map(|()| connection),
    };
    if get.wait_go && !source.is_dir() {
        return get_file(connection, source);
    }
    let options = SendOptions { owners: Owners::Keep };
    let stream = std::sync::Arc::clone(&connection.stream);
    let mut watch = |_| spoken_to(&stream);
    let sent = send(source, options, &mut &*connection.stream, &mut watch);
    match sent {
        Ok(_) => Some(connection),
        Err(SendError::Channel(_) | SendError::Stopped) => {
            connection.drain();
            None
        }
        // The client has been told.
        Err(_) => Some(connection),
    }
}

/// One file, whose data waits for Go.
fn get_file(mut connection: Connection, source: Source) -> Option<Connection> {
    let file = match source.into_file(Owners::Keep) {
        Ok(file) => file,
        Err(error) => return connection.refuse(fault(&error)).ok().map(|()| connection),
    };
    connection.send(&Reply::Entry(file.entry().clone())).ok()?;
    match connection.next_request() {
        Ok(Some(Request::Go)) => {}
        Ok(Some(other)) => {
            let message = format!("message {:?} came where Go was due", other.kind());
            connection.refuse(Fault { code: ErrorCode::Invalid, message, errno: None }).ok()?;
            return None;
        }
        Ok(None) | Err(_) => return None,
    }
    let stream = std::sync::Arc::clone(&connection.stream);
    let mut watch = |_| spoken_to(&stream);
    match file.send_data(&mut &*connection.stream, &mut watch) {
        Ok(()) => {
            let bytes = file.entry().data_len();
            say(&connection, &Transfer::Done(Done { files: 1, bytes, ..Done::default() })).ok()?;
            Some(connection)
        }
        Err(SendError::Channel(_) | SendError::Stopped) => None,
        Err(error) => {
            say(&connection, &Transfer::Error(fault(&error))).ok()?;
            Some(connection)
        }
    }
}

fn say(connection: &Connection, message: &Transfer) -> io::Result<()> {
    let mut frame = Vec::new();
    message.encode(&mut frame).map_err(io::Error::other)?;
    (&*connection.stream).write_all(&frame)
}

/// A receiver speaks in the middle only to say that it gives up, or goes.
fn spoken_to(stream: &std::fs::File) -> ControlFlow<()> {
    if readable(stream.as_fd(), Duration::ZERO) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
