//! A process that is killed at any instant.

use std::time::Duration;
use std::{fs, thread};

use bandsox_store::Mode;

use crate::helper::Other;
use crate::scene::{Scene, lease};

#[test]
fn whatever_a_killed_process_was_doing_the_next_command_understands_what_it_finds() {
    let scene = Scene::new();
    let paths = scene.store.paths();

    for round in 0..60_u64 {
        let mut other = Other::playing("churn", &scene.store, &[]);
        assert_eq!(other.says(), "begins");
        // Not a threshold: it only spreads the instants over what the process does.
        thread::sleep(Duration::from_micros(round * 1_777 % 60_000));
        other.kill();

        assert!(scene.damaged().is_empty(), "round {round}: {:?}", scene.damaged());
        for id in scene.healthy() {
            assert!(!scene.state(&id).phase.has_monitor(), "round {round}");
            assert!(paths.disk(&id).exists(), "round {round}: a VM that is there has its disk");
        }
    }

    let left = scene.healthy();
    for id in &left {
        drop(scene.start(id));
        scene.store.remove(id).expect("it does not run");
    }
    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");
    assert!(report.failed.is_empty() && report.kept.is_empty());
    for dir in [paths.disks(), paths.metadata_dir(), paths.sockets(), paths.logs()] {
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 0, "{}", dir.display());
    }
    assert_eq!(fs::read_dir(paths.locks()).expect("a directory").count(), 1, "the store's own");
    let id = scene.vm();
    assert_eq!(scene.start(&id).1, lease(3, 9000));
}
