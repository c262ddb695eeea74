//! The device's thread: when to look, when to wait.
//!
//! With little to do it sleeps until a kick, a socket or a command wakes it. While bulk data
//! moves, being woken for every packet costs the guest a kick and us a system call each, so the
//! thread then *ticks*: it asks for no kicks and looks at everything once per
//! [`TICK`]. What came meanwhile moves in one batch.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::device::orders::Verdict;
use crate::mailbox::{Mailbox, OnConnect};
use crate::poller::{Poller, Token};
use crate::stream::Stream;

/// Time between two looks while bulk data moves.
const TICK: Duration = Duration::from_micros(200);

/// Bytes in one pass that count as bulk.
const BULK: u64 = 16 << 10;

/// How long after the last bulk pass the thread goes on ticking.
const LINGER: Duration = Duration::from_millis(2);

/// How long finished transmit descriptors may wait for company while nothing else happens.
const SETTLE: Duration = Duration::from_millis(1);

/// Starts the device's threads. They end by themselves after [`Stop`](crate::mailbox::Command).
pub(crate) fn spawn(mailbox: Arc<Mailbox>) -> io::Result<()> {
    let poller = Poller::new()?;
    poller.add(mailbox.wake(), Token::Mail)?;
    let (accepted, streams) = mpsc::channel::<(OnConnect, Stream)>();
    thread::Builder::new().name("vsock-accept".to_owned()).spawn(move || {
        for (on_connect, stream) in streams {
            on_connect(stream);
        }
    })?;
    let device = Device::new(Arc::clone(&mailbox), poller, accepted);
    let closer = Arc::clone(&mailbox);
    let thread = thread::Builder::new().name("vsock".to_owned()).spawn(move || {
        // Also when the loop panics: callers must not wait for an answer that cannot come.
        let _closer = Closer(closer);
        run(device, &mailbox);
    });
    thread.map(drop)
}

struct Closer(Arc<Mailbox>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn run(mut device: Device, mailbox: &Mailbox) {
    let mut bulk_until: Option<Instant> = None;
    let mut patience = Some(Duration::ZERO);
    loop {
        let mut events = Vec::new();
        if let Err(error) = device.poller.wait(patience, |event| events.push(event)) {
            tracing::error!(%error, "vsock: the device cannot wait for events and ends");
            break;
        }
        let now = Instant::now();
        let commands = mailbox.collect();
        if events.is_empty() && commands.is_empty() && bulk_until.is_none() {
            device.settle();
        }
        for command in commands {
            if device.obey(command) == Verdict::Stop {
                device.shut_down();
                return;
            }
        }
        for event in events {
            device.note(event, now);
        }
        let pass = device.work(now);
        if pass.moved >= BULK {
            bulk_until = Some(now + LINGER);
        }
        patience = if pass.unfinished {
            Some(Duration::ZERO)
        } else if bulk_until.is_some_and(|until| now < until) {
            device.disarm();
            Poller::pause(mailbox.wake(), TICK);
            Some(Duration::ZERO)
        } else {
            bulk_until = None;
            sleep_for(&mut device, now)
        };
    }
}

/// Makes ready for sleep. Returns for how long.
fn sleep_for(device: &mut Device, now: Instant) -> Option<Duration> {
    if device.arm() {
        return Some(Duration::ZERO);
    }
    let until = device.next_deadline().map(|at| at.saturating_duration_since(now));
    if device.has_unsettled() {
        Some(until.map_or(SETTLE, |until| until.min(SETTLE)))
    } else {
        until
    }
}
