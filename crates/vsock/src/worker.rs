//! The device's thread: when to look, when to wait.
//!
//! With little to do it sleeps until a kick, a socket or a command wakes it. While bulk data
//! moves, being woken for every packet would cost the guest a kick and this thread a sleep each;
//! it then asks for no kicks and looks at everything at times of its own choosing, a *pace* that
//! follows the guest's speed so that a look finds about as much as the guest's window holds.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::device::orders::Verdict;
use crate::mailbox::{Mailbox, OnConnect};
use crate::pace::Pace;
use crate::poller::{Poller, Token};
use crate::stream::Stream;

/// How long finished transmit descriptors may wait for company while nothing else happens.
const SETTLE: Duration = Duration::from_millis(100);

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
    let mut pace = Pace::new();
    let mut patience = Some(Duration::ZERO);
    let mut events = Vec::new();
    loop {
        if let Err(error) = device.poller.wait(patience, |event| events.push(event)) {
            tracing::error!(%error, "vsock: the device cannot wait for events and ends");
            break;
        }
        if events.is_empty() && !pace.is_kept() {
            device.settle();
        }
        let now = Instant::now();
        for event in events.drain(..) {
            if event.token == Token::Mail {
                for command in mailbox.collect() {
                    if device.obey(command) == Verdict::Stop {
                        device.shut_down();
                        return;
                    }
                }
            } else {
                device.note(event, now);
            }
        }
        let pass = device.work(now);
        patience = if pass.unfinished {
            Some(Duration::ZERO)
        } else if let Some(pause) = pace.after(pass, now) {
            device.disarm();
            Some(pause)
        } else {
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
