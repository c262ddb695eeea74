//! Every difference between two contracts.

use vmstream::contract::{Attribute, Comparison, Policy, Side, compare, compare_between};
use vmstream::message::{Message, Producer};
use vmstream::{Finding, Value};

fn told(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn one(source: Attribute, destination: Attribute) -> Vec<String> {
    let comparison = compare(&[source], &[destination]);
    assert_eq!(comparison.accepts(), comparison.refusals.is_empty());
    let codes = |findings: &[Finding], word: &str| {
        findings.iter().map(|each| format!("{word} {}", each.code)).collect::<Vec<_>>()
    };
    [codes(&comparison.refusals, "refused"), codes(&comparison.remarks, "remark")].concat()
}

fn with(value: impl Into<Value>, policy: Policy) -> Attribute {
    Attribute::new("disk0", "queues", value, policy)
}

fn list(items: &[&str]) -> Vec<Value> {
    items.iter().map(|&item| item.into()).collect()
}

#[test]
fn each_policy_takes_what_it_says() {
    let int = |left: u8, right: u8, policy| one(with(left, policy), with(right, policy));
    let texts = |left: &[&str], right: &[&str], policy| {
        one(with(list(left), policy), with(list(right), policy))
    };

    assert!(int(4, 4, Policy::Exact).is_empty());
    assert_eq!(int(4, 5, Policy::Exact), ["refused value-differs"]);
    assert!(int(4, 5, Policy::AtLeast).is_empty());
    assert_eq!(int(5, 4, Policy::AtLeast), ["refused too-small"]);
    assert!(texts(&["a"], &["b", "a"], Policy::Subset).is_empty());
    assert_eq!(texts(&["a", "c"], &["b", "a"], Policy::Subset), ["refused not-a-subset"]);
    assert_eq!(texts(&["a"], &["b", "a"], Policy::Exact), ["refused value-differs"]);
    let lacking = |items: &[&str]| [with(list(items), Policy::Subset)];
    assert_eq!(
        told(&compare(&lacking(&["a", "c"]), &lacking(&["a"])).refusals),
        ["not-a-subset disk0#queues: source has [\"a\", \"c\"], destination has [\"a\"]; the \
          destination lacks [\"c\"]"]
    );
    assert_eq!(int(4, 5, Policy::Informational), ["remark value-differs"]);
}

#[test]
fn the_stricter_policy_counts() {
    let mixed = |left, right| one(with(4_u8, left), with(5_u8, right));

    assert_eq!(mixed(Policy::Informational, Policy::Exact), ["refused value-differs"]);
    assert!(mixed(Policy::AtLeast, Policy::Informational).is_empty());
    assert_eq!(mixed(Policy::AtLeast, Policy::Exact), ["refused value-differs"]);
}

#[test]
fn units_must_agree() {
    let differ = one(with(4_u8, Policy::Exact).unit("KiB"), with(4_u8, Policy::Exact).unit("MiB"));

    assert_eq!(differ, ["refused unit-differs"]);
}

#[test]
fn every_difference_is_told_with_its_cause_and_what_to_do() {
    let side = |vcpus: u8| {
        vec![
            Attribute::new("machine", "vcpus", vcpus, Policy::Exact).hint("-smp"),
            Attribute::new("disk0", "queues", vcpus, Policy::Exact).follows("machine#vcpus"),
            Attribute::new("host", "version", format!("8.{vcpus}"), Policy::Informational),
        ]
    };
    let (mut source, mut destination) = (side(1), side(4));
    source.push(Attribute::new("disk1", "serial", "abc", Policy::Exact));
    destination.push(Attribute::new("net0", "mac", Value::Bytes(vec![2; 6]), Policy::Exact));
    destination.push(Attribute::new("host", "name", "b", Policy::Informational));

    let comparison = compare(&source, &destination);

    assert_eq!(
        told(&comparison.refusals),
        [
            "value-differs machine#vcpus: source has 1, destination has 4 (-smp)",
            "missing-at-destination disk1#serial: source has \"abc\"",
            "missing-at-source net0#mac: destination has 020202020202",
        ]
    );
    assert_eq!(
        told(&comparison.consequences),
        ["value-differs disk0#queues: source has 1, destination has 4; it follows \
          machine#vcpus, which is 1 at the source and 4 at the destination"]
    );
    assert_eq!(comparison.remarks.len(), 2);
    let verdict = comparison.verdict();
    let again = vmstream::message::Verdict::from_value(verdict.to_value());
    assert_eq!(again, Ok(verdict));
}

/// A device and an attribute of it.
fn device(path: &str, kind: &str, queues: u8) -> [Attribute; 2] {
    let own = format!("{path}#device");
    let exact = Policy::Exact;
    [
        Attribute::new(path, "device", kind, exact).follows("machine#type"),
        Attribute::new(path, "queues", queues, exact).follows("machine#type").follows(own),
    ]
}

fn codes(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|each| format!("{} {}", each.code, each.path)).collect()
}

#[test]
fn c_1_a_side_that_lacks_an_attribute_is_as_it_says() {
    let without = [Attribute::new("disk0", "queues", 1_u8, Policy::Exact)];
    let with = |packed: bool| {
        let packed = Attribute::new("disk0", "packed", packed, Policy::Exact).absent(false);
        [without[0].clone(), packed]
    };

    assert_eq!(compare(&with(false), &without), Comparison::default());
    assert_eq!(compare(&without, &with(false)), Comparison::default());
    assert_eq!(
        told(&compare(&with(true), &without).refusals),
        ["missing-at-destination disk0#packed: source has true; without it, it is as false"]
    );
    assert_eq!(
        told(&compare(&without, &with(true)).refusals),
        ["missing-at-source disk0#packed: destination has true; without it, it is as false"]
    );
    let more = |items: &[&str]| {
        let none = Vec::<Value>::new();
        Attribute::new("cpu", "features", list(items), Policy::Subset).absent(none)
    };
    assert!(compare(&[], &[more(&["a"])]).accepts(), "the destination may have more");
    assert!(!compare(&[more(&["a"])], &[]).accepts());
}

#[test]
fn c_2_what_another_version_does_not_know_is_a_remark() {
    let named = |version: &str| Producer { name: "QEMU".into(), version: version.into() };
    let (old, new) = (named("7.2"), named("10.0"));
    let known = Attribute::new("machine", "type", "pc", Policy::Exact);
    let switch = Attribute::new("machine", "smbios", true, Policy::Exact);
    let more = [known.clone(), switch];
    let less = [known];
    let with = |producer, contract| Side { producer, contract };

    let between = compare_between(with(&old, &less), with(&new, &more));
    assert!(between.accepts());
    assert_eq!(codes(&between.remarks), ["missing-at-source machine#smbios"]);
    assert!(!compare_between(with(&old, &less), with(&old, &more)).accepts(), "of one version");
    assert!(!compare_between(with(&old, &[]), with(&new, &more)).accepts(), "of an unknown path");
    let extra = [less[0].clone(), device("disk9", "blk", 1)[0].clone()];
    assert!(!compare_between(with(&old, &less), with(&new, &extra)).accepts(), "a device more");
}

#[test]
fn c_3_a_difference_that_follows_a_refusing_one_is_its_consequence() {
    let side = |machine: &str, kind: &str, queues| {
        let mut all = vec![Attribute::new("machine", "type", machine, Policy::Exact)];
        all.extend(device("pci/2", kind, queues));
        all
    };
    let source = side("pc", "blk", 1);

    let other_kind = compare(&source, &side("pc", "rng", 4));
    assert_eq!(codes(&other_kind.refusals), ["value-differs pci/2#device"]);
    assert_eq!(codes(&other_kind.consequences), ["value-differs pci/2#queues"]);
    let missing = compare(&source, &source[..1]);
    assert_eq!(codes(&missing.refusals), ["missing-at-destination pci/2#device"]);
    assert_eq!(codes(&missing.consequences), ["missing-at-destination pci/2#queues"]);
    let machine = compare(&source, &side("q35", "blk", 4));
    assert_eq!(codes(&machine.refusals), ["value-differs machine#type"]);
    assert_eq!(machine.consequences.len(), 1);
    assert_eq!(
        codes(&compare(&source, &side("pc", "blk", 4)).refusals),
        ["value-differs pci/2#queues"]
    );

    let circle = |value: u8| {
        let one = |name: &str, other: &str| {
            Attribute::new("a", name, value, Policy::Exact).follows(format!("a#{other}"))
        };
        [one("x", "y"), one("y", "x"), one("z", "z")]
    };
    let circled = compare(&circle(1), &circle(2));
    assert_eq!(codes(&circled.refusals).len(), 3, "nothing is excused by itself");
}

#[test]
fn c_4_a_device_that_moved_is_one_difference() {
    let at = |path: &str| [device(path, "net", 1), device("pci/9", "blk", 1)].concat();

    let moved = compare(&at("pci/3"), &at("pci/4"));

    assert_eq!(
        told(&moved.refusals),
        ["moved pci/3#device: source has \"pci/3\", destination has \"pci/4\"; net is elsewhere"]
    );
    assert_eq!(moved.consequences.len(), 2);
    let replaced = compare(&device("pci/3", "net", 1), &device("pci/4", "rng", 1));
    assert_eq!(replaced.refusals.len(), 2, "of another kind: two devices");
}
