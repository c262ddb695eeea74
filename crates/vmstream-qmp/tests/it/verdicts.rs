//! Source against destination: what is wrong in one line, what is harmless in none.

use std::collections::BTreeMap;
use std::path::Path;

use vmstream::Finding;
use vmstream::contract::{Comparison, Side, compare_between};
use vmstream_qmp::Contract;

use crate::bed::{Bed, Qemu};
use crate::cases::{HARMLESS, WRONG};
use crate::machine::{Edit, contract};

fn side(contract: &Contract) -> Side<'_> {
    Side { producer: &contract.producer, contract: &contract.attributes }
}

fn compare(source: &Contract, destination: &Contract) -> Comparison {
    compare_between(side(source), side(destination))
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn directory() -> tempfile::TempDir {
    // No file system in memory: these cannot be opened past the cache.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// Each misconfiguration gives its line and no other.
fn every_one_is_one_line(qemu: &Qemu) {
    let dir = directory();
    let mut sources: BTreeMap<String, Contract> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in WRONG {
        let key = format!("{:?}", case.source);
        let source =
            sources.entry(key).or_insert_with(|| contract(qemu, case.source, false, dir.path()));
        let comparison = compare(source, &contract(qemu, case.destination, true, dir.path()));
        let found = lines(&comparison.refusals);
        eprintln!("{}: {found:?} and {}", case.name, comparison.consequences.len());
        if found != [case.line] {
            wrong.push((case.name, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_misconfiguration_is_one_line_with_qemu_7_2() {
    every_one_is_one_line(&Bed::get().old);
}

#[test]
fn each_misconfiguration_is_one_line_with_qemu_10_0() {
    every_one_is_one_line(&Bed::get().new);
}

fn none_refuses(from: &Qemu, to: &Qemu, common: Edit<'_>, dir: &Path) {
    let source = contract(from, common, false, dir);
    for (name, edit) in HARMLESS {
        let edit = [common, edit].concat();
        let comparison = compare(&source, &contract(to, &edit, true, dir));
        let what = format!("{name}, from {} to {}", from.version, to.version);
        assert_eq!(lines(&comparison.refusals), Vec::<String>::new(), "{what}");
        if from.version == to.version {
            assert_eq!(lines(&comparison.remarks), Vec::<String>::new(), "{what}");
        }
    }
}

#[test]
fn what_only_the_host_knows_of_may_differ() {
    let dir = directory();
    for qemu in [&Bed::get().old, &Bed::get().new] {
        none_refuses(qemu, qemu, &[], dir.path());
    }
}

#[test]
fn the_same_machine_type_of_another_version_is_the_same_machine() {
    let (dir, bed) = (directory(), Bed::get());
    let common: Edit<'_> = &[("cpu", "-cpu qemu64")];
    none_refuses(&bed.old, &bed.new, common, dir.path());
    none_refuses(&bed.new, &bed.old, common, dir.path());
}
