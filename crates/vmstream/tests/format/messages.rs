//! Rules M and E: what messages say.

use vmstream::contract::{Attribute, Policy};
use vmstream::frame::Kind;
use vmstream::message::{Finish, Manifest, Message, Region};
use vmstream::{Map, Rule, Value};

use crate::raw::{Raw, described, greeted, loaded, read_all, refusal, rule};
use crate::sample;

fn hello(change: impl FnOnce(&mut Map)) -> Rule {
    let Value::Map(mut map) = sample::hello().to_value() else { panic!("a hello is a map") };
    change(&mut map);
    rule(Raw::new().value(Kind::Hello, &Value::Map(map)))
}

fn manifest(change: impl FnOnce(&mut Manifest)) -> Rule {
    let mut manifest = sample::manifest(0);
    change(&mut manifest);
    rule(described().message(Kind::Manifest, &manifest))
}

#[test]
fn m_1_a_message_with_a_key_missing_unknown_or_of_another_type_is_refused() {
    assert_eq!(hello(|map| drop(map.remove("producer"))), Rule::M1);
    assert_eq!(hello(|map| drop(map.insert("extra", 1_u8))), Rule::M1);
    assert_eq!(hello(|map| drop(map.insert("needs", "nothing"))), Rule::M1);
    assert_eq!(hello(|map| drop(map.insert("created", -1_i8))), Rule::M1);
    assert_eq!(hello(|map| drop(map.insert("x-extra", 1_u8))), Rule::O5, "it is free");
    assert_eq!(rule(greeted().value(Kind::Note, &Value::Bool(true))), Rule::M1);
}

#[test]
fn m_2_another_format_or_version_is_refused() {
    assert_eq!(hello(|map| drop(map.insert("version", 2_u8))), Rule::M2);
    assert_eq!(hello(|map| drop(map.insert("format", "other"))), Rule::M2);
}

#[test]
fn m_3_a_feature_that_nobody_knows_is_refused() {
    let needs = vec![Value::from("late-schemas"), Value::from("time-travel")];

    assert_eq!(hello(|map| drop(map.insert("needs", needs))), Rule::M3);
}

#[test]
fn m_4_regions_that_make_no_sense_are_refused() {
    let name = |manifest: &mut Manifest| {
        let first = manifest.memory[0].clone();
        manifest.memory.push(Region { bytes: 4096, ..first });
    };

    assert_eq!(manifest(|manifest| manifest.page_size = 4095), Rule::M4);
    assert_eq!(manifest(|manifest| manifest.page_size = 256), Rule::M4);
    assert_eq!(manifest(|manifest| manifest.page_size = 0), Rule::M4);
    assert_eq!(manifest(|manifest| manifest.memory[0].bytes += 1), Rule::M4);
    assert_eq!(manifest(|manifest| manifest.disks[0].bytes += 1), Rule::M4);
    assert_eq!(manifest(name), Rule::M4);
}

#[test]
fn m_5_attributes_that_make_no_sense_are_refused() {
    let with = |attribute: Attribute| manifest(|manifest| manifest.contract.push(attribute));

    assert_eq!(with(Attribute::new("machine", "vcpus", 1_u8, Policy::Exact)), Rule::M5, "twice");
    assert_eq!(with(Attribute::new("a", "b", "text", Policy::AtLeast)), Rule::M5);
    assert_eq!(with(Attribute::new("a", "b", "text", Policy::Subset)), Rule::M5);
    assert_eq!(with(Attribute::new("a", "b", Value::map(), Policy::Exact)), Rule::M5);
    assert_eq!(with(Attribute::new("a", "b", 1_u8, Policy::AtLeast).absent("none")), Rule::M5);
    assert_eq!(with(Attribute::new("a", "b", Value::Null, Policy::Informational)), Rule::M5);
    assert_eq!(with(Attribute::new("", "b", 1_u8, Policy::Exact)), Rule::M5);
}

#[test]
fn m_6_paths_that_are_none_are_refused() {
    for path in ["", "/", "a//b", "a b", "ä", &"a".repeat(256)] {
        let named = |manifest: &mut Manifest| {
            manifest.devices.as_mut().expect("devices")[0].path = path.to_owned();
        };

        assert_eq!(manifest(named), Rule::M6, "{path:?}");
    }
}

#[test]
fn m_7_a_declared_device_without_its_schema_is_refused() {
    let change = |change: fn(&mut vmstream::message::DeclaredDevice)| {
        manifest(|manifest| change(&mut manifest.devices.as_mut().expect("devices")[0]))
    };

    assert_eq!(change(|device| device.schema = 1), Rule::M7);
    assert_eq!(change(|device| device.kind = "toy.disk".to_owned()), Rule::M7);
    let twice = |manifest: &mut Manifest| {
        let devices = manifest.devices.as_mut().expect("devices");
        devices.push(devices[0].clone());
    };
    assert_eq!(manifest(twice), Rule::M7);
}

#[test]
fn e_1_wrong_counts_are_refused() {
    let changes: [fn(&mut Finish); 4] = [
        |finish| finish.frames += 1,
        |finish| finish.bytes += 1,
        |finish| finish.pages += 1,
        |finish| finish.devices += 1,
    ];

    for change in changes {
        let mut finish = loaded().finish_message(0);
        change(&mut finish);

        assert_eq!(refusal(&loaded().message(Kind::Finish, &finish).out).0, Rule::E1);
    }
}

#[test]
fn e_2_another_digest_is_refused() {
    let mut finish = loaded().finish_message(0);
    finish.digest[31] ^= 1;

    assert_eq!(refusal(&loaded().message(Kind::Finish, &finish).out).0, Rule::E2);
    read_all(loaded().finish().out.as_slice()).expect("the right one is not");
}
