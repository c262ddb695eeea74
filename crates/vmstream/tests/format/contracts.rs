//! Every difference between two contracts.

use vmstream::contract::{Attribute, Policy, compare};
use vmstream::message::Message;
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
            "value-differs disk0#queues: source has 1, destination has 4; it follows \
             machine#vcpus, which is 1 at the source and 4 at the destination",
            "missing-at-destination disk1#serial: source has \"abc\"",
            "missing-at-source net0#mac: destination has 020202020202",
        ]
    );
    assert_eq!(comparison.remarks.len(), 2);
    let verdict = comparison.verdict();
    let again = vmstream::message::Verdict::from_value(verdict.to_value());
    assert_eq!(again, Ok(verdict));
}
