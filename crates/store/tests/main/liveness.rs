//! Who lives, who knows it, and what is said of the dead.

use std::fs;
use std::process::Stdio;

use bandsox_spec::{EngineExit, Phase, StopReason};
use bandsox_store::{AdoptError, RemoveError, VsockConfig};
use serde_json::json;

use crate::helper::{Other, part_of};
use crate::scene::{Scene, lease};

#[test]
fn of_many_starts_at_the_same_time_one_runs_a_monitor_and_the_others_say_it_runs() {
    let scene = Scene::new();
    let id = scene.vm();

    let mut starts: Vec<Other> =
        (0..6).map(|_| Other::playing("start", &scene.store, &[id.as_str()])).collect();
    let mut said: Vec<String> = starts.iter_mut().map(Other::says).collect();
    said.sort();

    assert_eq!(said[..5], ["already running"; 5]);
    let pid = said[5].strip_prefix("started ").expect("one of them").parse().expect("a pid");
    wait_until(|| scene.read(&id).pid() == Some(pid));
    drop(starts);
    // Those who tried to start it are gone, and it runs on.
    assert!(scene.store.is_live(&id).expect("an answer"));
    let monitor = scene.store.holder(&id).expect("an answer").expect("it said who it is");
    assert_eq!(monitor.pid, pid);
    assert!(monitor.kill().expect("ours"));
    wait_until(|| !scene.store.is_live(&id).expect("an answer"));
    assert_eq!(scene.state(&id).phase, Phase::Crashed);
}

#[test]
fn a_lock_passes_to_a_child_without_a_moment_in_which_nobody_holds_it() {
    let scene = Scene::new();
    let id = scene.vm();
    let lock = scene.store.try_lock_vm(&id).expect("an answer").expect("a free lock");

    let mut command = part_of("adopt", scene.store.paths().root(), &[id.as_str()]);
    let child = lock.spawn_holding(&mut command).expect("a process");
    assert!(scene.store.is_live(&id).expect("an answer"), "before its first instruction");
    let mut monitor = Other::of(child);

    assert_eq!(monitor.says(), "monitor runs");
    assert!(scene.store.try_lock_vm(&id).expect("an answer").is_none());
    let holder = scene.store.holder(&id).expect("an answer").expect("it said who it is");
    assert_eq!(holder.pid, monitor.id());
    assert_eq!(scene.read(&id).process(), Some(holder));
    monitor.kill();
    assert!(!scene.store.is_live(&id).expect("an answer"));
}

#[test]
fn a_process_that_cannot_be_started_leaves_the_lock_free() {
    let scene = Scene::new();
    let id = scene.vm();
    let lock = scene.store.try_lock_vm(&id).expect("an answer").expect("a free lock");

    let mut command = std::process::Command::new("/nowhere/bandsox");
    lock.spawn_holding(command.stdout(Stdio::null())).expect_err("no such program");

    assert!(!scene.store.is_live(&id).expect("an answer"));
}

#[test]
fn only_the_right_descriptor_is_adopted() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let _held = scene.lock(&vms[0]);
    let path = scene.store.paths().lock(&vms[0]);

    let stranger = fs::File::options().read(true).write(true).open(&path).expect("it is there");
    let refusal = scene.store.adopt_lock(&vms[0], stranger.into()).expect_err("it is held");
    assert!(matches!(refusal, AdoptError::NotHeld { .. }));

    let _other = scene.lock(&vms[1]);
    let wrong = fs::File::open(&path).expect("it is there");
    let refusal = scene.store.adopt_lock(&vms[1], wrong.into()).expect_err("another file");
    assert!(matches!(refusal, AdoptError::OtherFile { .. }));
}

#[test]
fn a_vm_whose_monitor_was_killed_is_crashed_with_the_reason_and_its_lease_free() {
    let scene = Scene::new();
    let id = scene.vm();
    let mut monitor = Other::playing("monitors", &scene.store, &[id.as_str()]);
    assert_eq!(monitor.says(), format!("{id} 3 9000"));
    assert_eq!((scene.state(&id).phase, scene.state(&id).live), (Phase::Starting, true));

    monitor.kill();
    let state = scene.state(&id);

    assert_eq!((state.phase, state.live), (Phase::Crashed, false));
    assert_eq!(state.reason, Some(StopReason::MonitorDied));
    let written = scene.read(&id);
    assert_eq!(written.phase(), Phase::Crashed, "whoever looks first writes it down");
    assert_eq!((written.pid(), written.process()), (None, None));
    assert_eq!(written.vsock(), VsockConfig::Enabled { cid: None, port: None });
    assert_eq!(scene.allocator("port")["used_ports"], json!([]));
}

#[test]
fn after_a_reboot_of_the_host_a_vm_is_stopped_and_the_reboot_is_named() {
    let scene = Scene::new();
    let id = scene.vm();
    drop(scene.start(&id));
    scene
        .store
        .update(&id, |metadata| metadata.set("boot_id", json!("an-earlier-boot")))
        .expect("room on the disk");

    let state = scene.state(&id);

    assert_eq!((state.phase, state.reason), (Phase::Stopped, Some(StopReason::HostRebooted)));
}

#[test]
fn every_end_that_a_monitor_reports_is_listed_with_its_reason() {
    let died = StopReason::EngineDied {
        exit: EngineExit::Signal { signal: 9 },
        detail: "killed".to_owned(),
    };
    for (reason, phase) in [
        (StopReason::Requested, Phase::Stopped),
        (StopReason::PoweredOff, Phase::Stopped),
        (StopReason::Rebooted, Phase::Stopped),
        (StopReason::Panicked, Phase::Crashed),
        (died, Phase::Crashed),
    ] {
        let scene = Scene::new();
        let id = scene.vm();
        let (lock, _) = scene.start(&id);
        scene.store.set_phase(&lock, Phase::Running).expect("room on the disk");

        scene.store.end_run(&lock, &reason).expect("room on the disk");
        drop(lock);

        let state = scene.state(&id);
        assert_eq!((state.phase, state.reason), (phase, Some(reason)));
    }
}

#[test]
fn a_vm_that_is_locked_but_not_yet_written_down_is_starting() {
    let scene = Scene::new();
    let id = scene.vm();

    let _lock = scene.store.try_lock_vm(&id).expect("an answer").expect("a free lock");

    assert_eq!(scene.state(&id).phase, Phase::Starting);
}

#[test]
fn a_vm_starts_again_after_a_crash_with_nothing_left_of_the_last_run() {
    let scene = Scene::new();
    let id = scene.vm();
    drop(scene.start(&id));

    let (_lock, again) = scene.start(&id);

    assert_eq!(again, lease(3, 9000));
    assert_eq!(scene.state(&id).reason, None);
}

#[test]
fn a_deleted_lock_file_does_not_make_a_running_vm_dead() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let mut monitor = Other::playing("monitors", &scene.store, &[vms[0].as_str()]);
    monitor.says();

    fs::remove_file(scene.store.paths().lock(&vms[0])).expect("it was there");

    assert!(scene.store.is_live(&vms[0]).expect("an answer"));
    assert!(scene.store.try_lock_vm(&vms[0]).expect("an answer").is_none());
    assert!(matches!(scene.store.remove(&vms[0]), Err(RemoveError::Running { .. })));
    assert_eq!(scene.start(&vms[1]).1, lease(4, 9001));
    monitor.kill();
    assert_eq!(scene.state(&vms[0]).phase, Phase::Crashed);
}

#[test]
fn looking_at_a_vm_over_and_over_never_makes_a_start_fail() {
    let scene = Scene::new();
    let id = scene.vm();

    std::thread::scope(|threads| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let looker = threads.spawn(|| {
            let stopped = stopped;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                scene.store.is_live(&id).expect("an answer");
                scene.store.list().expect("a list");
            }
        });
        for _ in 0..100 {
            let lock = scene.store.try_lock_vm(&id).expect("an answer");
            assert!(lock.is_some(), "nobody runs it");
        }
        drop(stop);
        looker.join().expect("it does not panic");
    });
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "waited for two minutes");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
