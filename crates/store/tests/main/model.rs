//! The allocator against a model of what it promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bandsox_spec::StopReason;
use bandsox_store::{Lease, VmLock};
use proptest::prelude::*;

use crate::scene::Scene;

/// What can happen to a few VMs and the two files.
#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    End(usize),
    Die(usize),
    Damage(usize),
    Repair(usize),
    Forget(usize),
    Reset,
    Overwrite(&'static str, String),
    List,
}

const VMS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let vm = 0..VMS;
    prop_oneof![
        6 => vm.clone().prop_map(Step::Start),
        3 => vm.clone().prop_map(Step::End),
        3 => vm.clone().prop_map(Step::Die),
        1 => vm.clone().prop_map(Step::Damage),
        1 => vm.clone().prop_map(Step::Repair),
        1 => vm.prop_map(Step::Forget),
        1 => Just(Step::Reset),
        1 => (prop_oneof![Just("cid"), Just("port")], "[ -~]{0,20}")
            .prop_map(|(which, text)| Step::Overwrite(which, text)),
        1 => Just(Step::List),
    ]
}

/// What the store should know: who runs, and which dead ones cannot be read.
#[derive(Default)]
struct Model {
    running: BTreeMap<usize, (VmLock, Lease)>,
    /// What was leased when a VM died whose metadata are damaged.
    haunted: BTreeMap<usize, Lease>,
    damaged: BTreeSet<usize>,
    /// Dead, and nobody has looked yet: reclaimed at the first look unless damaged before it.
    unsettled: BTreeMap<usize, Lease>,
}

impl Model {
    fn lowest_free(&self) -> Lease {
        let taken = || self.running.values().map(|(_, lease)| lease).chain(self.haunted.values());
        let cids: BTreeSet<u32> = taken().map(|lease| lease.cid).collect();
        let ports: BTreeSet<u32> = taken().map(|lease| lease.port).collect();
        Lease {
            cid: (3..).find(|cid| !cids.contains(cid)).expect("few run"),
            port: (9000..).find(|port| !ports.contains(port)).expect("few run"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_lease_is_the_lowest_that_no_live_or_unreadable_vm_has(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let scene = Scene::in_memory();
        let vms = scene.vms(VMS);
        let healthy: Vec<_> = vms.iter().map(|id| scene.read(id).to_bytes()).collect();
        let mut model = Model::default();

        for step in steps {
            match step {
                Step::Start(vm) if model.damaged.contains(&vm) => {}
                Step::Start(vm) => {
                    let lock = scene.store.try_lock_vm(&vms[vm]).expect("an answer");
                    prop_assert_eq!(lock.is_none(), model.running.contains_key(&vm));
                    let Some(lock) = lock else { continue };
                    model.unsettled.clear();
                    let lease = scene.store.lease(&lock).expect("few run");
                    prop_assert_eq!(lease, model.lowest_free());
                    model.running.insert(vm, (lock, lease));
                }
                Step::End(vm) => {
                    let Some((lock, _)) = model.running.remove(&vm) else { continue };
                    let ended = scene.store.end_run(&lock, &StopReason::Requested);
                    prop_assert_eq!(ended.is_err(), model.damaged.contains(&vm));
                    // What others had is looked through then, too.
                    model.unsettled.clear();
                }
                Step::Die(vm) => {
                    let Some((_, lease)) = model.running.remove(&vm) else { continue };
                    if model.damaged.contains(&vm) {
                        model.haunted.insert(vm, lease);
                    } else {
                        model.unsettled.insert(vm, lease);
                    }
                }
                Step::Damage(vm) => {
                    scene.damage(&vms[vm]);
                    model.damaged.insert(vm);
                    model.haunted.extend(model.unsettled.remove(&vm).map(|lease| (vm, lease)));
                }
                Step::Repair(vm) if model.running.contains_key(&vm) => {}
                Step::Repair(vm) => {
                    scene.write_metadata(&vms[vm], &healthy[vm]);
                    model.damaged.remove(&vm);
                    model.haunted.remove(&vm);
                }
                Step::Forget(vm) => {
                    if let Some((lock, lease)) = model.running.get(&vm) {
                        scene.write_metadata(&vms[vm], &healthy[vm]);
                        prop_assert!(scene.store.release(lock).is_ok());
                        prop_assert_eq!(scene.store.lease(lock).expect("few run").cid <= lease.cid, true);
                        let now = scene.store.lease(lock).expect("it has one");
                        model.damaged.remove(&vm);
                        let (lock, _) = model.running.remove(&vm).expect("it runs");
                        model.running.insert(vm, (lock, now));
                        model.unsettled.clear();
                    }
                }
                Step::Reset => scene.reset_allocators(),
                Step::Overwrite(which, text) => {
                    fs::write(scene.allocator_path(which), text).expect("written");
                }
                Step::List => {
                    let live = scene.healthy().iter().filter(|id| scene.state(id).live).count();
                    let expected = model.running.keys().filter(|vm| !model.damaged.contains(vm));
                    prop_assert_eq!(live, expected.count());
                    model.unsettled.clear();
                }
            }
            let leased: BTreeSet<u32> = model.running.values().map(|(_, lease)| lease.cid).collect();
            prop_assert_eq!(leased.len(), model.running.len());
        }
    }
}
