//! A storage directory of a test's own, and short ways to say what happens in it.

use std::fs;
use std::path::PathBuf;

use bandsox_spec::{DiskSizeMib, EngineChoice, ImageConfig, MemMib, Vcpus, VmId};
use bandsox_store::{
    Create, DamagedEntry, Entry, Lease, LiveState, Metadata, NewVm, ProcessIdentity, Store, VmLock,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A storage directory that lives as long as this.
pub(crate) struct Scene {
    pub(crate) store: Store,
    _dir: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().expect("a directory"))
    }

    /// On a file system that has no disk to wait for, for tests that write thousands of times.
    pub(crate) fn in_memory() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::within(dir.expect("a directory"))
    }

    fn within(dir: TempDir) -> Self {
        let store = Store::open(&dir.path().join("store"), Create::Yes).expect("a new store");
        Self { store, _dir: dir }
    }

    /// Makes a VM with a disk.
    pub(crate) fn vm(&self) -> VmId {
        let creation = self.store.begin_create(None).expect("a new id");
        fs::write(creation.overlay_path(), "disk").expect("a disk");
        creation.commit(new_vm(None)).expect("a new VM").id().clone()
    }

    pub(crate) fn vms(&self, count: usize) -> Vec<VmId> {
        (0..count).map(|_| self.vm()).collect()
    }

    /// What a monitor does first.
    pub(crate) fn start(&self, id: &VmId) -> (VmLock, Lease) {
        let lock = self.lock(id);
        let lease = self.store.lease(&lock).expect("a free CID and port");
        (lock, lease)
    }

    pub(crate) fn lock(&self, id: &VmId) -> VmLock {
        let lock = self.store.try_lock_vm(id).expect("an answer").expect("a free lock");
        let us = ProcessIdentity::current().expect("/proc is mounted");
        self.store.begin_run(&lock, &us).expect("room on the disk");
        lock
    }

    pub(crate) fn state(&self, id: &VmId) -> LiveState {
        self.store.state(id).expect("a VM").1
    }

    pub(crate) fn read(&self, id: &VmId) -> Metadata {
        self.store.read(id).expect("metadata")
    }

    /// Edits the metadata file as a person does, behind the store's back.
    pub(crate) fn write_metadata(&self, id: &VmId, content: impl AsRef<[u8]>) {
        fs::write(self.store.paths().metadata(id), content).expect("written");
    }

    pub(crate) fn damage(&self, id: &VmId) {
        self.write_metadata(id, "{\"id\": oops");
    }

    pub(crate) fn healthy(&self) -> Vec<VmId> {
        self.store
            .list()
            .expect("a list")
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Vm(metadata, _) => Some(metadata.id().clone()),
                Entry::Damaged(_) => None,
            })
            .collect()
    }

    pub(crate) fn damaged(&self) -> Vec<DamagedEntry> {
        self.store
            .list()
            .expect("a list")
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Vm(..) => None,
                Entry::Damaged(damaged) => Some(damaged),
            })
            .collect()
    }

    /// An allocator file's content.
    pub(crate) fn allocator(&self, which: &str) -> Value {
        let bytes = fs::read(self.allocator_path(which)).expect("an allocator file");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    pub(crate) fn allocator_path(&self, which: &str) -> PathBuf {
        self.store.paths().root().join(format!("{which}_allocator.json"))
    }

    /// The migration guide's two lines, to the letter.
    pub(crate) fn reset_allocators(&self) {
        fs::write(self.allocator_path("cid"), "{\"next_cid\": 3}\n").expect("written");
        fs::write(self.allocator_path("port"), "{\"next_port\": 9000, \"used_ports\": []}\n")
            .expect("written");
    }
}

pub(crate) fn new_vm(name: Option<&str>) -> NewVm {
    NewVm {
        name: name.map(|name| name.parse().expect("a valid name")),
        image: "alpine.tar".to_owned(),
        rootfs_path: PathBuf::from("/images/alpine.erofs"),
        base_identity: json!({"sha256": "00"}),
        vcpus: Vcpus::default(),
        mem_mib: MemMib::default(),
        disk_size_mib: DiskSizeMib::default(),
        env_vars: vec!["TOKEN=secret".parse().expect("a valid variable")],
        engine: EngineChoice::Auto,
        image_reference: None,
        image_config: ImageConfig::default(),
    }
}

pub(crate) fn lease(cid: u32, port: u32) -> Lease {
    Lease { cid, port }
}
