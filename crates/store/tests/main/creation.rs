//! Making storage directories and VMs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bandsox_spec::EnvVar;
use bandsox_store::{
    Create, CreateError, Mode, NameError, OpenError, Store, VsockConfig, What, Why,
};

use crate::helper::Other;
use crate::scene::{Scene, new_vm};

#[test]
fn a_new_vm_is_written_down_with_every_known_key_in_the_known_order() {
    let scene = Scene::new();

    let metadata = scene.store.create(new_vm(Some("web"))).expect("a new VM");

    let keys: Vec<&String> = metadata.as_object().keys().collect();
    let ours = ["engine", "overlay_path", "base_identity", "status_reason", "image_config"];
    let known = [
        "id",
        "name",
        "image",
        "vcpu",
        "mem_mib",
        "disk_size_mib",
        "rootfs_path",
        "network_config",
        "vsock_config",
        "created_at",
        "status",
        "pid",
        "env_vars",
        "mcp",
        "metadata",
    ];
    assert_eq!(keys, known.iter().chain(&ours).collect::<Vec<_>>());
    assert_eq!(metadata.vsock(), VsockConfig::Enabled { cid: None, port: None });
    assert_eq!(scene.read(metadata.id()), metadata);
    let path = scene.store.paths().metadata(metadata.id());
    let mode = fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds secrets");
}

#[test]
fn a_creation_that_is_given_up_leaves_nothing() {
    let scene = Scene::new();
    let creation = scene.store.begin_create(None).expect("a new id");
    fs::write(creation.overlay_path(), "disk").expect("a disk");
    let id = creation.id().clone();

    drop(creation);

    let paths = scene.store.paths();
    assert!(!paths.disk(&id).exists() && !paths.lock(&id).exists());
    assert!(scene.healthy().is_empty() && scene.damaged().is_empty());
}

#[test]
fn more_environment_than_metadata_can_hold_is_refused_and_leaves_nothing() {
    let scene = Scene::new();
    let vm = |bytes: usize| {
        let env_vars = vec![EnvVar::new("A", &"x".repeat(bytes)).expect("a variable")];
        scene.store.create(bandsox_store::NewVm { env_vars, ..new_vm(None) })
    };

    let fits = vm(700 << 10).expect("fits").id().clone();
    let refusal = vm(900 << 10).expect_err("is too much");

    assert!(matches!(refusal, CreateError::TooLarge { bytes } if bytes > 900 << 10), "{refusal}");
    assert_eq!(scene.healthy(), [fits]);
}

#[test]
fn a_taken_name_is_refused_and_leaves_nothing() {
    let scene = Scene::new();
    let first = scene.store.create(new_vm(Some("web"))).expect("a new VM");

    let refusal = scene.store.create(new_vm(Some("web"))).expect_err("the name is taken");

    assert!(matches!(
        refusal,
        CreateError::Name(NameError::Taken { id, .. }) if id == *first.id()
    ));
    assert_eq!(scene.healthy(), [first.id().clone()]);
    assert_eq!(fs::read_dir(scene.store.paths().locks()).expect("a directory").count(), 2);
}

#[test]
fn a_name_that_was_taken_while_the_disk_was_made_is_refused_at_the_end() {
    let scene = Scene::new();
    let vm = new_vm(Some("web"));
    let creation = scene.store.begin_create(vm.name.as_ref()).expect("a new id");
    fs::write(creation.overlay_path(), "disk").expect("a disk");
    let disk = creation.overlay_path();
    scene.store.create(vm.clone()).expect("a new VM");

    let refusal = creation.commit(vm).expect_err("the name is taken");

    assert!(matches!(refusal, CreateError::Name(_)));
    assert!(!disk.exists());
}

#[test]
fn a_creation_under_way_is_not_listed_and_not_reclaimed() {
    let scene = Scene::new();
    let creation = scene.store.begin_create(None).expect("a new id");
    fs::write(creation.overlay_path(), "disk").expect("a disk");

    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    assert!(report.reclaimed.is_empty(), "{report:?}");
    assert!(scene.healthy().is_empty() && scene.damaged().is_empty());
    creation.commit(new_vm(None)).expect("a new VM");
}

#[test]
fn a_creation_that_was_killed_leaves_nothing_that_cleanup_does_not_reclaim() {
    let scene = Scene::new();
    let bystander = scene.vm();
    scene.damage(&bystander);
    let mut creator = Other::playing("create", &scene.store, &[]);
    let id = creator.says().parse().expect("an id");
    creator.kill();
    let paths = scene.store.paths();
    assert!(paths.disk(&id).exists());

    let report = scene.store.cleanup(Mode::Reclaim).expect("a report");

    // Although a damaged file is there: it cannot refer to what never was a VM.
    let what: Vec<_> = report.reclaimed.iter().map(|item| (item.what, item.why.clone())).collect();
    assert_eq!(
        what,
        [(What::Disk, Why::CreationInterrupted), (What::Lock, Why::CreationInterrupted)]
    );
    assert!(report.bytes() > 0);
    assert!(!paths.disk(&id).exists() && !paths.lock(&id).exists());
    assert!(paths.disk(&bystander).exists());
}

#[test]
fn a_missing_store_is_not_made_unless_asked_and_a_foreign_directory_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("a").join("b");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");

    assert!(matches!(Store::open(&root, Create::No), Err(OpenError::Missing { .. })));
    assert!(!root.exists());
    assert!(matches!(Store::open(dir.path(), Create::No), Err(OpenError::Missing { .. })));
    fs::write(dir.path().join("file"), "").expect("written");
    let refusal = Store::open(&dir.path().join("file"), Create::Yes).expect_err("a file");
    assert!(matches!(refusal, OpenError::NotADirectory { .. }));

    Store::open(dir.path(), Create::Yes).expect("a new store");
    let mode = fs::metadata(dir.path()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "a directory that was there keeps its mode");
    Store::open(&root, Create::Yes).expect("a new store");
    let mode = fs::metadata(&root).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_storage_path_of_two_hundred_characters_works() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("x".repeat(100)).join("y".repeat(100));
    let store = Store::open(&root, Create::Yes).expect("a new store");

    let id = store.create(new_vm(None)).expect("a new VM").id().clone();
    let lock = store.try_lock_vm(&id).expect("an answer").expect("a free lock");
    store.lease(&lock).expect("a free CID and port");
    drop(lock);

    store.remove(&id).expect("it does not run");
}

#[test]
fn a_full_or_closed_directory_is_named_and_leaves_the_old_metadata() {
    let scene = Scene::new();
    let id = scene.vm();
    // A directory of the temporary file's name: it cannot be written, whoever asks.
    let blocker = scene.store.paths().metadata_dir().join(format!(".{id}.json.tmp"));
    fs::create_dir(&blocker).expect("made");
    let before = scene.read(&id);

    let refusal = scene
        .store
        .rename(&id, &"new".parse().expect("a valid name"))
        .expect_err("nothing can be written");

    assert!(refusal.to_string().contains(id.as_str()), "{refusal}");
    assert_eq!(scene.read(&id), before);
    fs::remove_dir(blocker).expect("it is there");
}
