//! The vsock device comes and goes while the guest runs.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use bandsox_engine::{CommandError, Engine, VsockPlug};
use bandsox_qemu::vhost_user::{Front, FrontEvent};
use bandsox_vsock::Handle;

use crate::guest::{DEADLINE, Guest, Plan, jail};

/// A device of the monitor's, and QEMU's end of the way to it.
fn device(cid: u32) -> (Front, UnixStream, Receiver<FrontEvent>) {
    let (ours, theirs) = UnixStream::pair().expect("socket pairs can be made");
    let (sender, events) = channel();
    let device = Handle::start().expect("a device can be made");
    let front = Front::serve(ours, device, cid, move |event| {
        // The test may have ended.
        sender.send(event).ok();
    });
    (front.expect("a thread can be started"), theirs, events)
}

fn next(events: &Receiver<FrontEvent>) -> FrontEvent {
    events.recv_timeout(DEADLINE).expect("the front is told in time")
}

#[test]
fn a_vsock_device_can_be_exchanged_in_a_running_guest() {
    let (_first, theirs, first_events) = device(3);
    let plan = Plan::new("hotplug");
    plan.vsock.set(Some(theirs.into()));
    let mut guest = Guest::start(&plan, &jail()).expect("QEMU starts");
    guest.engine.boot().expect("it answers");
    guest.console.wait_for("VSOCK 1", 0);
    assert!(matches!(next(&first_events), FrontEvent::Attached));

    guest.engine.unplug_vsock(DEADLINE).expect("the guest lets go");

    let seen = guest.console.text().len();
    guest.console.wait_for("VSOCK 0", seen);
    let end = std::iter::from_fn(|| Some(next(&first_events)))
        .find(|event| !matches!(event, FrontEvent::Detached));
    assert!(matches!(end, Some(FrontEvent::HungUp)), "{end:?}");

    let (_second, theirs, second_events) = device(4);
    guest.engine.plug_vsock(VsockPlug { socket: theirs.into() }).expect("there is room");

    let seen = guest.console.text().len();
    guest.console.wait_for("VSOCK 1", seen);
    assert!(matches!(next(&second_events), FrontEvent::Attached));
    guest.engine.unplug_vsock(DEADLINE).expect("the guest lets go again");
}

#[test]
fn a_stopped_guest_does_not_let_go_and_the_wait_is_bounded() {
    let (_front, theirs, _events) = device(3);
    let plan = Plan::new("hotplug");
    plan.vsock.set(Some(theirs.into()));
    let mut guest = Guest::start(&plan, &jail()).expect("QEMU starts");

    let waited = std::time::Duration::from_millis(300);
    let refused = guest.engine.unplug_vsock(waited).expect_err("it has not even booted");

    assert!(
        matches!(refused, CommandError::NoAnswer { .. } | CommandError::Refused { .. }),
        "{refused:?}"
    );
    let (_other, theirs, _events) = device(4);
    let taken = guest.engine.plug_vsock(VsockPlug { socket: theirs.into() });
    assert!(matches!(taken, Err(CommandError::Refused { .. })), "{taken:?}");
    guest.engine.boot().expect("none of this hurt it");
    guest.console.wait_for("VSOCK", 0);
}
