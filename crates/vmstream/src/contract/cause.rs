//! Which differences are there only because of others.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{Comparison, Difference, Role};
use crate::finding::{Finding, Short};

/// Sorts differences by what they are among each other.
///
/// A refusing difference that follows no other refusing one is a refusal; what follows from it, in any number of steps, is a consequence.
/// Those that only follow each other in a circle are refusals all: nothing is excused by itself.
pub(super) fn sort(found: Vec<Difference<'_>>) -> Comparison {
    let graph = Graph::new(&found);
    let roots: Vec<usize> =
        graph.refusing.iter().copied().filter(|&at| graph.is_root(at)).collect();
    let reached = graph.reached_from(&roots);
    let causes: Vec<Option<String>> = (0..found.len())
        .map(|at| graph.causes.get(&at).and_then(|causes| causes.first()))
        .map(|cause| cause.and_then(|&cause| found.get(cause)).map(|each| told(&each.finding)))
        .collect();
    let mut comparison = Comparison::default();
    for (at, (mut difference, cause)) in found.into_iter().zip(causes).enumerate() {
        let role = match (difference.refuses, reached.contains(&at)) {
            (false, _) => Role::Remark,
            (true, true) => Role::Consequence,
            (true, false) => Role::Refusal,
        };
        if role == Role::Consequence {
            difference.finding.cause = cause;
        }
        comparison.add(difference, role);
    }
    comparison
}

/// Refusing differences, by their positions, and which follow which.
struct Graph {
    refusing: Vec<usize>,
    /// The refusing differences that one follows.
    causes: BTreeMap<usize, Vec<usize>>,
}

impl Graph {
    fn new(found: &[Difference<'_>]) -> Self {
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        let refusing: Vec<usize> =
            (0..).zip(found).filter(|(_, each)| each.refuses).map(|(at, _)| at).collect();
        for (at, each) in found.iter().enumerate().filter(|(_, each)| each.refuses) {
            named.insert(&each.name, at);
            named.extend(each.also.as_deref().map(|also| (also, at)));
        }
        let causes_of = |at: usize, each: &Difference<'_>| -> Vec<usize> {
            let followed = each.follows.iter().filter_map(|name| named.get(name).copied());
            followed.filter(|&cause| cause != at).collect()
        };
        let refusing_ones = found.iter().enumerate().filter(|(_, each)| each.refuses);
        let causes = refusing_ones.map(|(at, each)| (at, causes_of(at, each))).collect();
        Self { refusing, causes }
    }

    fn is_root(&self, at: usize) -> bool {
        self.causes.get(&at).is_none_or(Vec::is_empty)
    }

    /// All that follows from these, in any number of steps; not they themselves.
    fn reached_from(&self, roots: &[usize]) -> BTreeSet<usize> {
        let mut followers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (&at, causes) in &self.causes {
            for &cause in causes {
                followers.entry(cause).or_default().push(at);
            }
        }
        let mut reached = BTreeSet::new();
        let mut open = roots.to_vec();
        while let Some(at) = open.pop() {
            for &next in followers.get(&at).into_iter().flatten() {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

/// A cause in words.
fn told(cause: &Finding) -> String {
    let path = &cause.path;
    match (&cause.source, &cause.destination) {
        (Some(source), Some(destination)) => format!(
            "it follows {path}, which is {} at the source and {} at the destination",
            Short(source),
            Short(destination)
        ),
        (Some(_), None) => format!("it follows {path}, missing at the destination"),
        _ => format!("it follows {path}, missing at the source"),
    }
}
