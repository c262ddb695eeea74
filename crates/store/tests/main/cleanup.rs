//! What is reclaimed, and what is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bandsox_spec::{Phase, StopReason};
use bandsox_store::{CleanupReport, Mode, What, Why};
use serde_json::json;

use crate::helper::Other;
use crate::scene::Scene;

#[test]
fn what_dead_vms_held_goes_and_what_live_ones_hold_stays() {
    let scene = Scene::new();
    let vms = scene.vms(3);
    let paths = scene.store.paths();
    let mut dead = Other::playing("monitors", &scene.store, &[vms[0].as_str()]);
    assert!(dead.says().ends_with("3 9000"));
    let mut live = Other::playing("monitors", &scene.store, &[vms[1].as_str()]);
    assert!(live.says().ends_with("4 9001"));
    for id in &vms {
        fs::create_dir(paths.socket_dir(id)).expect("made");
        fs::create_dir(paths.log_dir(id)).expect("made");
    }
    dead.kill();

    let dry = scene.store.cleanup(Mode::DryRun).expect("a report");
    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    let expected = [
        (What::Run, paths.metadata(&vms[0])),
        (What::Sockets, paths.socket_dir(&vms[0])),
        (What::Sockets, paths.socket_dir(&vms[2])),
    ];
    let mut found = reclaimed(&report);
    found[1..].sort_by_key(|(_, path)| *path != paths.socket_dir(&vms[0]));
    assert_eq!(found, expected);
    assert_eq!(reclaimed(&dry).len(), expected.len(), "a dry run says the same");
    assert!(matches!(report.reclaimed[0].why, Why::Ended(StopReason::MonitorDied)));
    assert_eq!(scene.read(&vms[0]).phase(), Phase::Crashed);
    assert!(paths.log_dir(&vms[0]).exists(), "the logs of a VM that is there are of use");
    assert!(paths.socket_dir(&vms[1]).exists());
    assert_eq!(scene.allocator("port")["used_ports"], json!([9001]));
}

#[test]
fn a_dry_run_changes_nothing() {
    let scene = Scene::new();
    let id = scene.vm();
    let paths = scene.store.paths();
    drop(scene.start(&id));
    for path in [paths.disks().join("0123456789ab.ext4"), paths.metadata_dir().join(".x.json.tmp")]
    {
        fs::write(path, "left over").expect("written");
    }
    let before = snapshot(paths.root());

    let report = scene.store.cleanup(Mode::DryRun).expect("a report");

    assert!(report.dry_run);
    assert_eq!(report.reclaimed.len(), 3);
    assert!(report.bytes() > 0);
    assert_eq!(snapshot(paths.root()), before);
}

#[test]
fn what_belongs_to_no_vm_goes() {
    let scene = Scene::new();
    let kept = scene.vm();
    let paths = scene.store.paths();
    let stray = "0123456789ab".parse().expect("a valid id");
    fs::write(paths.disk(&stray), "disk").expect("written");
    fs::create_dir(paths.socket_dir(&stray)).expect("made");
    fs::create_dir(paths.log_dir(&stray)).expect("made");
    fs::write(paths.console_log(&stray), "boot").expect("written");
    fs::write(paths.lock(&stray), "").expect("written");
    for name in [".0123456789ab.json.tmp", ".cid_allocator.json.tmp"] {
        fs::write(paths.metadata_dir().join(name), "{").expect("written");
        fs::write(paths.root().join(name), "{").expect("written");
    }

    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert_eq!(report.reclaimed.len(), 8, "{report:?}");
    assert!(report.failed.is_empty() && report.kept.is_empty());
    assert!(scene.store.cleanup(Mode::Reclaim).expect("a report").reclaimed.is_empty());
    assert!(paths.disk(&kept).exists() && paths.lock(&kept).exists());
}

#[test]
fn images_templates_and_files_of_others_are_nobodys_to_reclaim() {
    let scene = Scene::new();
    let paths = scene.store.paths();
    for path in [
        paths.images().join("abc.erofs"),
        paths.snapshots().join("0123456789ab"),
        paths.disks().join("template-4096.ext4"),
        paths.disks().join(".tmp-young"),
        paths.locks().join("store.lock"),
        paths.kernel().join("vmlinux"),
        paths.root().join("notes"),
    ] {
        fs::write(path, "of use").expect("written");
    }

    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert!(report.reclaimed.is_empty(), "{report:?}");
}

#[test]
fn a_disk_that_another_vms_metadata_name_stays() {
    let scene = Scene::new();
    let id = scene.vm();
    let shared = scene.store.paths().disks().join("0123456789ab.ext4");
    fs::write(&shared, "shared").expect("written");
    scene
        .store
        .update(&id, |metadata| metadata.set_overlay_path(&shared))
        .expect("room on the disk")
        .expect("text");

    scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert!(shared.exists());
}

#[test]
fn a_temporary_image_goes_when_nobody_wrote_to_it_for_an_hour() {
    let scene = Scene::new();
    let paths = scene.store.paths();
    let abandoned = [paths.images().join(".tmp-abc"), paths.disks().join(".tmp-def")];
    for path in &abandoned {
        let file = fs::File::create(path).expect("written");
        let then = SystemTime::now() - Duration::from_secs(2 * 3600);
        file.set_modified(then).expect("ours");
    }
    let young = paths.images().join(".tmp-young");
    fs::write(&young, "").expect("written");

    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert_eq!(report.reclaimed.len(), 2);
    assert!(young.exists() && abandoned.iter().all(|path| !path.exists()));
}

#[test]
fn the_report_is_plain_data() {
    let scene = Scene::new();
    let id = scene.vm();
    drop(scene.start(&id));

    let report = scene.store.cleanup(Mode::DryRun).expect("a report");
    let json = serde_json::to_value(&report).expect("plain data");

    assert_eq!(json["reclaimed"][0]["what"], "run");
    assert_eq!(json["reclaimed"][0]["vm"], json!(id));
    assert_eq!(json["reclaimed"][0]["why"], json!({"ended": {"kind": "monitor_died"}}));
}

fn reclaimed(report: &CleanupReport) -> Vec<(What, PathBuf)> {
    report.reclaimed.iter().map(|item| (item.what, item.path.clone())).collect()
}

/// Every path below a directory with its content.
fn snapshot(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let content = fs::read(&path).expect("readable");
                found.push((path, content));
            }
        }
    }
    found.sort();
    found
}
