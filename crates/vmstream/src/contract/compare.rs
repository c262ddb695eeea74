//! Every difference between two contracts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Attribute, Policy};
use crate::finding::{Finding, Short};
use crate::message::Verdict;
use crate::value::Value;

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Differences for which the destination must refuse, in the order of the source's contract, then of what only the destination has.
    pub refusals: Vec<Finding>,
    /// Differences that are only worth knowing.
    pub remarks: Vec<Finding>,
}

impl Comparison {
    /// Whether nothing refuses.
    #[must_use]
    pub const fn accepts(&self) -> bool {
        self.refusals.is_empty()
    }

    /// The same as a message.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let findings = self.refusals.iter().chain(&self.remarks).cloned().collect();
        Verdict { accepted: self.accepts(), findings }
    }
}

/// Compares two contracts, attribute by attribute.
///
/// An attribute that one side lacks refuses unless it is informational there; one by whose policy the sides disagree is compared by
/// the stricter policy, by `exact` if none is. Codes: `value-differs`, `too-small`, `not-a-subset`, `unit-differs`,
/// `missing-at-source`, `missing-at-destination`.
#[must_use]
pub fn compare(source: &[Attribute], destination: &[Attribute]) -> Comparison {
    let sides = Sides { source: &index_of(source), destination: &index_of(destination) };
    let mut comparison = Comparison::default();
    for mine in source {
        let theirs = sides.destination.get(&mine.name()).copied();
        if let Some((finding, refuses)) = sides.difference(mine, theirs) {
            comparison.add(finding, refuses);
        }
    }
    for theirs in destination.iter().filter(|each| !sides.source.contains_key(&each.name())) {
        let finding = sides
            .finding("missing-at-source", theirs, theirs.policy)
            .values(None, Some(theirs.value.clone()));
        comparison.add(finding, theirs.policy != Policy::Informational);
    }
    comparison
}

impl Comparison {
    fn add(&mut self, finding: Finding, refuses: bool) {
        if refuses { self.refusals.push(finding) } else { self.remarks.push(finding) }
    }
}

type Index<'a> = BTreeMap<String, &'a Attribute>;

fn index_of(side: &[Attribute]) -> Index<'_> {
    side.iter().map(|each| (each.name(), each)).collect()
}

struct Sides<'a> {
    source: &'a Index<'a>,
    destination: &'a Index<'a>,
}

impl Sides<'_> {
    /// The difference of one attribute, if there is any, and whether it refuses.
    fn difference(&self, mine: &Attribute, theirs: Option<&Attribute>) -> Option<(Finding, bool)> {
        let Some(theirs) = theirs else {
            let finding = self.finding("missing-at-destination", mine, mine.policy);
            let refuses = mine.policy != Policy::Informational;
            return Some((finding.values(Some(mine.value.clone()), None), refuses));
        };
        let policy = stricter(mine.policy, theirs.policy);
        let code = if mine.unit == theirs.unit {
            verdict(policy, &mine.value, &theirs.value)?
        } else {
            "unit-differs"
        };
        let mut finding = self.finding(code, mine, policy);
        finding.hint = theirs.hint.clone().or(finding.hint);
        finding = finding.values(Some(mine.value.clone()), Some(theirs.value.clone()));
        Some((finding, policy != Policy::Informational))
    }

    fn finding(&self, code: &'static str, about: &Attribute, policy: Policy) -> Finding {
        Finding {
            policy: Some(Cow::Borrowed(policy.word())),
            cause: self.cause(about),
            hint: about.hint.clone(),
            ..Finding::new(code, about.name(), "contract")
        }
    }

    /// Says that an attribute differs because one that it follows does.
    fn cause(&self, about: &Attribute) -> Option<String> {
        let followed = about.follows.as_deref()?;
        let (mine, theirs) = (self.source.get(followed), self.destination.get(followed));
        match (mine, theirs) {
            (Some(mine), Some(theirs)) if mine.value != theirs.value => Some(format!(
                "it follows {followed}, which is {} at the source and {} at the destination",
                Short(&mine.value),
                Short(&theirs.value)
            )),
            (Some(_), None) => Some(format!("it follows {followed}, missing at the destination")),
            (None, Some(_)) => Some(format!("it follows {followed}, missing at the source")),
            _ => None,
        }
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
            mine.iter().any(|item| !theirs.contains(item)).then_some("not-a-subset")
        }
        _ => (mine != theirs).then_some("value-differs"),
    }
}
