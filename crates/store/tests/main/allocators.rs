//! CIDs, ports, and the two files that people look at and reset.

use std::collections::BTreeSet;
use std::fs;

use bandsox_spec::{StopReason, VmId};
use bandsox_store::{LeaseError, VsockConfig};
use serde_json::json;

use crate::helper::Other;
use crate::scene::{Scene, lease};

#[test]
fn the_first_vm_gets_3_and_9000_and_the_second_4_and_9001() {
    let scene = Scene::new();
    let vms = scene.vms(2);

    let (_first, one) = scene.start(&vms[0]);
    let (_second, two) = scene.start(&vms[1]);

    assert_eq!((one, two), (lease(3, 9000), lease(4, 9001)));
    let written = scene.read(&vms[1]).vsock();
    assert_eq!(written, VsockConfig::Enabled { cid: Some(4), port: Some(9001) });
}

#[test]
fn the_files_have_the_guides_keys_and_are_readable_by_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let id = scene.vm();

    let (_lock, _lease) = scene.start(&id);

    assert_eq!(scene.allocator("cid"), json!({"next_cid": 4, "leases": {id.as_str(): 3}}));
    assert_eq!(
        scene.allocator("port"),
        json!({"next_port": 9001, "used_ports": [9000], "leases": {id.as_str(): 9000}})
    );
    for which in ["cid", "port"] {
        let about = fs::metadata(scene.allocator_path(which)).expect("it is there");
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_lease_is_given_back_at_the_end_and_the_lowest_is_used_again() {
    let scene = Scene::new();
    let vms = scene.vms(4);
    let (first, _) = scene.start(&vms[0]);
    let (_second, _) = scene.start(&vms[1]);
    let (_third, _) = scene.start(&vms[2]);

    scene.store.end_run(&first, &StopReason::Requested).expect("room on the disk");

    assert_eq!(scene.read(&vms[0]).vsock(), VsockConfig::Enabled { cid: None, port: None });
    assert_eq!(scene.allocator("port")["used_ports"], json!([9001, 9002]));
    assert_eq!(scene.start(&vms[3]).1, lease(3, 9000));
}

#[test]
fn released_alone_a_lease_is_free_while_the_vm_still_runs() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let (lock, _) = scene.start(&vms[0]);

    scene.store.release(&lock).expect("room on the disk");

    let (_second, two) = scene.start(&vms[1]);
    assert_eq!(two, lease(3, 9000));
    assert_eq!(scene.store.lease(&lock).expect("a free CID and port"), lease(4, 9001));
}

#[test]
fn asked_twice_a_running_vm_keeps_its_lease() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let (first, _) = scene.start(&vms[0]);
    let (second, two) = scene.start(&vms[1]);
    scene.store.end_run(&first, &StopReason::Requested).expect("room on the disk");

    assert_eq!(scene.store.lease(&second).expect("it has one"), two);
}

#[test]
fn a_stopped_vm_costs_no_lease() {
    let scene = Scene::new();

    for id in scene.vms(3) {
        let (lock, lease_of_it) = scene.start(&id);
        assert_eq!(lease_of_it, lease(3, 9000));
        scene.store.end_run(&lock, &StopReason::PoweredOff).expect("room on the disk");
    }
}

#[test]
fn a_dead_monitors_lease_is_reclaimed_by_the_next_start() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    drop(scene.start(&vms[0]));

    assert_eq!(scene.start(&vms[1]).1, lease(3, 9000));
    assert_eq!(scene.read(&vms[0]).vsock(), VsockConfig::Enabled { cid: None, port: None });
}

#[test]
fn resetting_the_files_while_vms_run_never_leads_to_a_second_one_with_the_same_numbers() {
    let scene = Scene::new();
    let vms = scene.vms(3);
    let (_first, _) = scene.start(&vms[0]);
    let (_second, _) = scene.start(&vms[1]);

    scene.reset_allocators();

    assert_eq!(scene.start(&vms[2]).1, lease(5, 9002));
}

#[test]
fn corrupt_empty_and_missing_files_are_made_anew() {
    for which in ["cid", "port"] {
        for content in [None, Some(""), Some("\0\0\0\0"), Some("{\"next_cid\": "), Some("[3]")] {
            let scene = Scene::new();
            let vms = scene.vms(2);
            let (_first, _) = scene.start(&vms[0]);
            match content {
                Some(text) => fs::write(scene.allocator_path(which), text).expect("written"),
                None => fs::remove_file(scene.allocator_path(which)).expect("it was there"),
            }

            assert_eq!(scene.start(&vms[1]).1, lease(4, 9001), "{which} {content:?}");
            assert_eq!(scene.allocator("cid")["next_cid"], json!(5));
            assert_eq!(scene.allocator("port")["used_ports"], json!([9000, 9001]));
        }
    }
}

#[test]
fn a_directory_in_place_of_a_file_hinders_no_start() {
    let scene = Scene::new();
    let id = scene.vm();
    fs::create_dir_all(scene.allocator_path("cid").join("x")).expect("made");

    assert_eq!(scene.start(&id).1, lease(3, 9000));
}

#[test]
fn what_the_files_say_of_vms_that_do_not_run_is_not_believed() {
    let scene = Scene::new();
    let id = scene.vm();
    fs::write(scene.allocator_path("cid"), r#"{"next_cid": 200}"#).expect("written");
    fs::write(scene.allocator_path("port"), r#"{"next_port": 9500, "used_ports": [9000, 9001]}"#)
        .expect("written");

    assert_eq!(scene.start(&id).1, lease(3, 9000));
}

#[test]
fn keys_of_others_in_the_files_are_kept() {
    let scene = Scene::new();
    let id = scene.vm();
    fs::write(scene.allocator_path("cid"), r#"{"note": "mine", "next_cid": 3}"#).expect("written");

    let (_lock, _) = scene.start(&id);

    assert_eq!(scene.allocator("cid")["note"], json!("mine"));
}

#[test]
fn editing_a_running_vms_metadata_does_not_free_its_numbers() {
    let scene = Scene::new();
    let vms = scene.vms(4);
    let (_first, _) = scene.start(&vms[0]);
    let (_second, _) = scene.start(&vms[1]);
    let (_third, _) = scene.start(&vms[2]);

    // Lost, changed, and gone.
    scene.write_metadata(&vms[0], json!({"id": vms[0], "status": "stopped"}).to_string());
    scene.damage(&vms[1]);
    fs::remove_file(scene.store.paths().metadata(&vms[2])).expect("it was there");
    scene.reset_allocators();

    assert_eq!(scene.start(&vms[3]).1, lease(6, 9003));
}

#[test]
fn emptying_a_running_vms_lock_file_does_not_free_its_numbers() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    let (_first, _) = scene.start(&vms[0]);
    fs::write(scene.store.paths().lock(&vms[0]), "").expect("written");
    scene.reset_allocators();

    assert_eq!(scene.start(&vms[1]).1, lease(4, 9001));
}

#[test]
fn a_damaged_file_of_a_dead_vm_keeps_the_numbers_that_it_may_refer_to() {
    let scene = Scene::new();
    let vms = scene.vms(3);
    drop(scene.start(&vms[0]));
    scene.damage(&vms[0]);
    scene.reset_allocators();

    let (_second, kept_clear) = scene.start(&vms[1]);
    scene.store.remove(&vms[0]).expect("it does not run");
    let (_third, freed) = scene.start(&vms[2]);

    assert_eq!((kept_clear, freed), (lease(4, 9001), lease(3, 9000)));
}

#[test]
fn one_vm_too_many_is_told_so_and_leaks_nothing() {
    let scene = Scene::in_memory();
    let mut locks: Vec<_> = (0..252).map(|_| scene.start(&scene.vm()).0).collect();

    let id = scene.vm();
    let one_too_many = scene.lock(&id);
    let refusal = scene.store.lease(&one_too_many).expect_err("252 CIDs are taken");

    assert!(matches!(refusal, LeaseError::NoCids));
    assert_eq!(refusal.to_string(), "No available CIDs");
    assert_eq!(scene.allocator("cid")["next_cid"], json!(255));
    assert_eq!(scene.allocator("port")["used_ports"].as_array().map(Vec::len), Some(252));
    assert_eq!(scene.read(&id).vsock(), VsockConfig::Enabled { cid: None, port: None });
    let last = locks.pop().expect("252 of them");
    scene.store.end_run(&last, &StopReason::Requested).expect("room on the disk");
    assert_eq!(scene.store.lease(&one_too_many).expect("one is free"), lease(254, 9251));
}

#[test]
fn when_all_ports_are_taken_that_is_said_and_no_cid_is_lost() {
    let scene = Scene::in_memory();
    let id = scene.vm();
    for port in 9000..=9999 {
        let broken: VmId = format!("broken-{port}").parse().expect("a valid id");
        scene.write_metadata(&broken, format!("{{\"vsock_config\": {{\"port\": {port}, oops"));
    }

    let lock = scene.lock(&id);
    let refusal = scene.store.lease(&lock).expect_err("all ports may be taken");

    assert_eq!(refusal.to_string(), "No available ports");
    assert_eq!(scene.read(&id).vsock(), VsockConfig::Enabled { cid: None, port: None });
    fs::remove_file(scene.store.paths().metadata(&"broken-9417".parse().expect("a valid id")))
        .expect("it was there");
    assert_eq!(scene.store.lease(&lock).expect("one is free"), lease(3, 9417));
}

#[test]
fn a_vm_without_vsock_gets_no_lease() {
    let scene = Scene::new();
    let vms = scene.vms(2);
    scene.write_metadata(&vms[0], json!({"id": vms[0]}).to_string());
    scene.write_metadata(
        &vms[1],
        json!({"id": vms[1], "vsock_config": {"enabled": false}}).to_string(),
    );

    let absent = scene.store.lease(&scene.lock(&vms[0])).expect_err("no vsock configuration");
    let disabled = scene.store.lease(&scene.lock(&vms[1])).expect_err("vsock is off");

    assert_eq!(
        absent.to_string(),
        "VM requires vsock support. Please recreate the VM to enable vsock."
    );
    assert!(matches!(disabled, LeaseError::Disabled));
}

#[test]
fn fifty_leases_from_several_processes_never_collide_even_while_the_files_are_reset() {
    let scene = Scene::new();
    let vms: Vec<String> = scene.vms(50).iter().map(ToString::to_string).collect();
    let mut others: Vec<Other> = vms
        .chunks(10)
        .map(|ids| {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            Other::playing("monitors", &scene.store, &ids)
        })
        .collect();

    let (mut cids, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..10 {
        for other in &mut others {
            scene.reset_allocators();
            let said = other.says();
            let mut words = said.split(' ').skip(1).map(|word| word.parse::<u32>());
            cids.extend(words.next().expect("a CID"));
            ports.extend(words.next().expect("a port"));
        }
    }

    assert_eq!(cids, (3..=52).collect());
    assert_eq!(ports, (9000..=9049).collect());
    others.into_iter().for_each(Other::kill);
    assert_eq!(scene.start(&vms[49].parse().expect("a valid id")).1, lease(3, 9000));
}
