//! The specification against the code and the tests.

use std::fs;
use std::path::Path;

use vmstream::message::{Hello, Manifest, Purpose};
use vmstream::writer::Compress;
use vmstream::{Rule, Writer};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn specification() -> String {
    read("../../docs/formats/vmstream.md").replace('`', "")
}

#[test]
fn every_rule_is_in_the_specification_word_for_word() {
    let text = specification();

    let missing: Vec<_> = Rule::ALL
        .iter()
        .filter(|rule| !text.contains(&format!("| **{}** | {}", rule.id(), rule.text())))
        .map(|rule| rule.id())
        .collect();

    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(text.matches("\n| **").count(), Rule::ALL.len(), "a rule that the code lacks");
}

#[test]
fn every_rule_has_a_test_of_its_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format");
    let files = fs::read_dir(folder).expect("the tests").map(|entry| entry.expect("a file"));
    let tests: String =
        files.map(|file| fs::read_to_string(file.path()).expect("a test")).collect();

    // Rules of the comparison are nothing that an input can break.
    let text = specification();
    let comparison = text.lines().filter_map(|line| line.strip_prefix("| C-"));
    let comparison =
        comparison.filter_map(|line| line.get(..1)).map(|number| format!("C-{number}"));
    let comparison: Vec<_> = comparison.collect();
    assert!(!comparison.is_empty());
    let rules = Rule::ALL.iter().map(|rule| rule.id()).chain(comparison.iter().map(String::as_str));

    let missing: Vec<_> = rules
        .filter(|id| !tests.contains(&format!("fn {}_", id.to_lowercase().replace('-', "_"))))
        .collect();

    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_example_is_what_is_written() {
    let hello = Hello::new("a", "1", Purpose::Contract);
    let mut writer = Writer::new(Vec::new(), &hello).expect("a hello");
    writer.compress(Compress::Nothing);
    let manifest = Manifest { page_size: 4096, ..Manifest::default() };
    writer.manifest(&manifest).expect("a manifest");
    let stream = writer.finish().expect("an end").0;

    let text = specification();
    let example = text.rsplit("uncompressed:\n\ntext\n").next().unwrap_or_default();
    let digits: String = example.split_whitespace().collect();
    let hex: String = stream.iter().map(|byte| format!("{byte:02x}")).collect();

    assert_eq!(digits, hex);
}
