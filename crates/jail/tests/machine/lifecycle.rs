//! How machines run, stop, and end.

use bandsox_engine::{Engine, EngineEvent, ExitStatus, ShutdownCause};
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::{Guest, Plan, jail, no_jail};

fn pid_of(guest: &Guest) -> Pid {
    let pid = i32::try_from(guest.engine.info().pid).expect("process ids are small");
    Pid::from_raw(pid).expect("process ids are not 0")
}

#[test]
fn a_guest_that_powers_off_is_said_to_have_done_so() {
    let guest = Guest::boot("bare-poweroff", &jail());

    let (seen, exit) = guest.until_gone();

    let down = EngineEvent::Shutdown { cause: ShutdownCause::PoweredOff };
    assert_eq!(seen, [EngineEvent::Booted, down]);
    assert_eq!(exit.status, ExitStatus::Code(0), "{}", exit.stderr_tail);
    assert_eq!(exit.cause, Some(ShutdownCause::PoweredOff));
    assert!(guest.console.text().contains("READY"));
}

#[test]
fn a_guest_that_reboots_ends_and_says_so() {
    let guest = Guest::boot("bare-reboot", &jail());

    let (_, exit) = guest.until_gone();

    assert_eq!(exit.status, ExitStatus::Code(0), "{}", exit.stderr_tail);
    assert_eq!(exit.cause, Some(ShutdownCause::Rebooted));
}

#[test]
fn a_guest_that_panics_is_told_from_one_that_reboots() {
    let guest = Guest::boot("panic", &jail());

    let (seen, exit) = guest.until_gone();

    assert!(seen.contains(&EngineEvent::Panicked), "{seen:?}\n{}", guest.console.text());
    assert_eq!(exit.cause, Some(ShutdownCause::Panicked));
}

#[test]
fn a_paused_guest_stands_still_and_a_resumed_one_runs_on() {
    let mut guest = Guest::boot("bare-idle", &jail());
    guest.console.wait_for("TICK 1", 0);

    guest.engine.pause().expect("it can be paused");
    assert!(!guest.engine.is_running().expect("it answers"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = guest.console.text();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let after = guest.console.text();
    guest.engine.resume().expect("it can be resumed");
    assert!(guest.engine.is_running().expect("it answers"));

    assert_eq!(before, after, "a paused guest printed");
    guest.console.wait_for("TICK", before.len());
    let heard = [guest.next_event(), guest.next_event(), guest.next_event()];
    assert_eq!(heard, [EngineEvent::Booted, EngineEvent::Paused, EngineEvent::Resumed]);
}

#[test]
fn quitting_is_orderly_and_has_its_cause() {
    let mut guest = Guest::boot("bare-idle", &jail());
    guest.console.wait_for("READY", 0);

    guest.engine.quit().expect("it quits");

    let (_, exit) = guest.until_gone();
    assert_eq!((exit.status, exit.cause), (ExitStatus::Code(0), Some(ShutdownCause::Host)));
    guest.engine.quit().expect("quitting again is no error");
}

#[test]
fn killing_works_at_once_and_from_the_start() {
    let mut guest = Guest::start(&Plan::new("bare-idle"), &jail()).expect("QEMU starts");

    guest.engine.kill();

    let (_, exit) = guest.until_gone();
    assert_eq!(exit.status, ExitStatus::Signal(9));
    assert!(guest.engine.pause().is_err());
}

#[test]
fn a_qemu_that_somebody_killed_is_reported_with_its_signal() {
    let guest = Guest::boot("bare-idle", &jail());
    guest.console.wait_for("READY", 0);

    kill_process(pid_of(&guest), Signal::KILL).expect("root may");

    let (_, exit) = guest.until_gone();
    assert_eq!((exit.status, exit.cause), (ExitStatus::Signal(9), None));
}

#[test]
fn a_qemu_that_cannot_start_says_why() {
    let mut plan = Plan::new("bare-idle");
    plan.kernel = plan.initrd.clone();

    let error = Guest::start(&plan, &jail()).err().expect("an initramfs is no kernel");

    assert!(error.to_string().contains("kernel"), "{error}");
}

#[test]
fn a_kernel_that_the_engines_user_may_not_read_is_named() {
    let mut plan = Plan::new("bare-idle");
    let private = plan.folder.path().join("private-kernel");
    std::fs::write(&private, b"x").expect("room");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(&private, mode).expect("it is ours");
    plan.kernel = private.clone();

    let error = Guest::start(&plan, &jail()).err().expect("it is not readable");

    let source = std::error::Error::source(&error).expect("the launch failed").to_string();
    assert!(source.contains("private-kernel"), "{source}");
}

#[test]
fn storage_paths_may_be_long() {
    let mut plan = Plan::new("bare-poweroff");
    let mut folder = plan.folder.path().to_owned();
    for _ in 0..3 {
        folder.push("a,b=c d".repeat(14));
    }
    std::fs::create_dir_all(&folder).expect("names may be this long");
    for (path, name) in [(&mut plan.kernel, "vmlinux"), (&mut plan.initrd, "initramfs")] {
        let long = folder.join(name);
        std::fs::copy(&*path, &long).expect("room");
        *path = long;
    }

    let mut guest = Guest::start(&plan, &jail()).expect("QEMU starts");
    guest.engine.boot().expect("it answers");

    let (_, exit) = guest.until_gone();
    assert_eq!(exit.cause, Some(ShutdownCause::PoweredOff), "{}", exit.stderr_tail);
}

#[test]
fn without_a_jail_a_machine_runs_all_the_same_and_says_so() {
    let guest = Guest::boot("bare-poweroff", &no_jail());

    let (_, exit) = guest.until_gone();

    assert_eq!(exit.cause, Some(ShutdownCause::PoweredOff), "{}", exit.stderr_tail);
    assert!(guest.sealed.missing.iter().any(|line| line.contains("no jail")));
}

#[test]
fn a_dropped_engine_is_dead() {
    let Guest { engine, events, console, .. } = Guest::boot("bare-idle", &jail());
    console.wait_for("READY", 0);

    drop(engine);

    let exit = events.iter().last();
    assert!(
        matches!(&exit, Some(EngineEvent::Exited(exit)) if exit.status == ExitStatus::Signal(9)),
        "{exit:?}"
    );
}
