//! Every difference between two contracts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Attribute, Policy, cause};
use crate::finding::{Finding, Short};
use crate::message::{Producer, Verdict};
use crate::value::{Value, encode};

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Differences for which the destination must refuse, in the order of the source's contract, then of what only the destination has.
    pub refusals: Vec<Finding>,
    /// Differences that are there because an attribute that they follow is among the refusals: they go when it does.
    pub consequences: Vec<Finding>,
    /// Differences that are only worth knowing.
    pub remarks: Vec<Finding>,
}

/// A contract and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Who made it.
    pub producer: &'a Producer,
    /// Its attributes.
    pub contract: &'a [Attribute],
}

impl Comparison {
    /// Whether nothing refuses.
    #[must_use]
    pub const fn accepts(&self) -> bool {
        self.refusals.is_empty()
    }

    /// The same as a message: refusals, then consequences, which say what they follow, then remarks.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let all = [&self.refusals, &self.consequences, &self.remarks];
        Verdict { accepted: self.accepts(), findings: all.into_iter().flatten().cloned().collect() }
    }

    pub(super) fn add(&mut self, difference: Difference<'_>, role: Role) {
        match role {
            Role::Refusal => self.refusals.push(difference.finding),
            Role::Consequence => self.consequences.push(difference.finding),
            Role::Remark => self.remarks.push(difference.finding),
        }
    }
}

/// Compares the contracts of two programs of the same version; see [`compare_between`].
#[must_use]
pub fn compare(source: &[Attribute], destination: &[Attribute]) -> Comparison {
    Sides::new(source, destination, false).compare()
}

/// Compares two contracts, attribute by attribute.
///
/// An attribute that one side lacks counts there as what it says that it is where it is `absent`; without that it refuses, unless it
/// is informational, or the side knows its path and is of another version. One by whose policy the sides disagree is compared by
/// the stricter policy, by `exact` if none is. Codes: `value-differs`, `too-small`, `not-a-subset`, `unit-differs`, `moved`,
/// `missing-at-source`, `missing-at-destination`.
#[must_use]
pub fn compare_between(source: Side<'_>, destination: Side<'_>) -> Comparison {
    let versions_differ = source.producer != destination.producer;
    Sides::new(source.contract, destination.contract, versions_differ).compare()
}

/// One difference, before it is known whether another is its cause.
pub(super) struct Difference<'a> {
    /// The attribute's name; of a device that moved, at the source.
    pub(super) name: String,
    /// Of a device that moved, the name at the destination.
    pub(super) also: Option<String>,
    pub(super) finding: Finding,
    pub(super) refuses: bool,
    pub(super) follows: Vec<&'a str>,
}

/// What a difference is among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Refusal,
    Consequence,
    Remark,
}

type Index<'a> = BTreeMap<String, &'a Attribute>;

fn index_of(side: &[Attribute]) -> Index<'_> {
    side.iter().map(|each| (each.name(), each)).collect()
}

fn paths_of(side: &[Attribute]) -> BTreeSet<&str> {
    side.iter().map(|each| each.path.as_str()).collect()
}

struct Sides<'a> {
    order: (&'a [Attribute], &'a [Attribute]),
    source: Index<'a>,
    destination: Index<'a>,
    /// Paths that the source, and the destination, know.
    paths: (BTreeSet<&'a str>, BTreeSet<&'a str>),
    versions_differ: bool,
}

impl<'a> Sides<'a> {
    fn new(source: &'a [Attribute], destination: &'a [Attribute], versions_differ: bool) -> Self {
        Self {
            order: (source, destination),
            source: index_of(source),
            destination: index_of(destination),
            paths: (paths_of(source), paths_of(destination)),
            versions_differ,
        }
    }

    fn compare(&self) -> Comparison {
        let (source, destination) = self.order;
        let mut moves = self.moves();
        let arrived: BTreeSet<String> = moves.values().map(|to| to.name()).collect();
        let mut found = Vec::new();
        for mine in source {
            let theirs = self.destination.get(&mine.name()).copied();
            match (theirs, moves.remove(&mine.name())) {
                (Some(theirs), _) => found.extend(difference(mine, theirs)),
                (None, Some(to)) => found.push(moved(mine, to)),
                (None, None) => found.extend(self.lone(mine, true)),
            }
        }
        let only_theirs = |each: &&Attribute| {
            !self.source.contains_key(&each.name()) && !arrived.contains(&each.name())
        };
        found.extend(
            destination.iter().filter(only_theirs).filter_map(|each| self.lone(each, false)),
        );
        cause::sort(found)
    }

    /// Devices that only the source has where they are, and the one of the same kind that only the destination has elsewhere.
    fn moves(&self) -> BTreeMap<String, &'a Attribute> {
        let lone = |each: &&Attribute, other: &Index<'_>| {
            each.attribute == DEVICE && !other.contains_key(&each.name())
        };
        let (source, destination) = self.order;
        let mut arrived: BTreeMap<_, VecDeque<&Attribute>> = BTreeMap::new();
        for each in destination.iter().filter(|each| lone(each, &self.source)) {
            arrived.entry(encode(&each.value)).or_default().push_back(each);
        }
        let pair = |each: &Attribute| {
            let to = arrived.get_mut(&encode(&each.value))?.pop_front()?;
            Some((each.name(), to))
        };
        source.iter().filter(|each| lone(each, &self.destination)).filter_map(pair).collect()
    }

    /// What one side alone says.
    fn lone(&self, about: &'a Attribute, at_source: bool) -> Option<Difference<'a>> {
        let (code, verdict_of_absent): (_, Option<_>) = if at_source {
            let absent = about.absent.as_ref();
            (
                "missing-at-destination",
                absent.map(|absent| verdict(about.policy, &about.value, absent)),
            )
        } else {
            let absent = about.absent.as_ref();
            ("missing-at-source", absent.map(|absent| verdict(about.policy, absent, &about.value)))
        };
        if verdict_of_absent == Some(None) {
            return None;
        }
        let value = Some(about.value.clone());
        let mut finding = finding(code, about, about.policy);
        finding = if at_source { finding.values(value, None) } else { finding.values(None, value) };
        if let Some(absent) = &about.absent {
            finding = finding.because(format!("without it, it is as {}", Short(absent)));
        }
        let paths = if at_source { &self.paths.1 } else { &self.paths.0 };
        let is_unknown =
            self.versions_differ && about.absent.is_none() && paths.contains(&*about.path);
        let refuses = about.policy != Policy::Informational && !is_unknown;
        let follows = about.follows.iter().map(String::as_str).collect();
        Some(Difference { name: about.name(), also: None, finding, refuses, follows })
    }
}

/// The attribute that says what is at a path.
const DEVICE: &str = "device";

/// The difference of an attribute that both sides have, if there is any.
fn difference<'a>(mine: &'a Attribute, theirs: &'a Attribute) -> Option<Difference<'a>> {
    let policy = stricter(mine.policy, theirs.policy);
    let code = if mine.unit == theirs.unit {
        verdict(policy, &mine.value, &theirs.value)?
    } else {
        "unit-differs"
    };
    let mut finding = finding(code, mine, policy);
    finding.hint = theirs.hint.clone().or(finding.hint);
    if code == NOT_A_SUBSET {
        finding.cause = Some(format!("the destination lacks {}", Short(&lacking(mine, theirs))));
    }
    Some(Difference {
        name: mine.name(),
        also: None,
        finding: finding.values(Some(mine.value.clone()), Some(theirs.value.clone())),
        refuses: policy != Policy::Informational,
        follows: both(mine, theirs),
    })
}

/// The code of a list of which the destination lacks items.
const NOT_A_SUBSET: &str = "not-a-subset";

/// Items that only the source has.
fn lacking(mine: &Attribute, theirs: &Attribute) -> Value {
    let (mine, theirs) = (mine.value.as_list(), theirs.value.as_list().unwrap_or_default());
    let lacking = mine.into_iter().flatten().filter(|item| !theirs.contains(item));
    Value::List(lacking.cloned().collect())
}

/// A device that is elsewhere.
fn moved<'a>(from: &'a Attribute, to: &'a Attribute) -> Difference<'a> {
    let policy = stricter(from.policy, to.policy);
    let (here, there) = (from.path.as_str().into(), to.path.as_str().into());
    let mut finding = finding("moved", from, policy).values(Some(here), Some(there));
    let kind = from.value.as_text().unwrap_or("the device");
    finding.cause = Some(format!("{kind} is elsewhere"));
    finding.hint = to.hint.clone().or(finding.hint);
    Difference {
        name: from.name(),
        also: Some(to.name()),
        finding,
        refuses: policy != Policy::Informational,
        follows: both(from, to),
    }
}

/// What either side says that the attribute follows.
fn both<'a>(mine: &'a Attribute, theirs: &'a Attribute) -> Vec<&'a str> {
    let all: BTreeSet<&str> =
        mine.follows.iter().chain(&theirs.follows).map(String::as_str).collect();
    all.into_iter().collect()
}

fn finding(code: &'static str, about: &Attribute, policy: Policy) -> Finding {
    Finding {
        policy: Some(Cow::Borrowed(policy.word())),
        hint: about.hint.clone(),
        ..Finding::new(code, about.name(), "contract")
    }
}

/// The policy that two sides which disagree are compared by.
fn stricter(left: Policy, right: Policy) -> Policy {
    match (left, right) {
        (left, right) if left == right => left,
        (Policy::Informational, other) | (other, Policy::Informational) => other,
        _ => Policy::Exact,
    }
}

/// The code of the difference, if the values do not suit the policy.
fn verdict(policy: Policy, mine: &Value, theirs: &Value) -> Option<&'static str> {
    match (policy, mine, theirs) {
        (Policy::AtLeast, Value::Int(mine), Value::Int(theirs)) => {
            (theirs < mine).then_some("too-small")
        }
        (Policy::Subset, Value::List(mine), Value::List(theirs)) => {
            mine.iter().any(|item| !theirs.contains(item)).then_some(NOT_A_SUBSET)
        }
        _ => (mine != theirs).then_some("value-differs"),
    }
}
