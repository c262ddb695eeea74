//! The page about the format has every rule as the reader says it.

use std::fs;
use std::path::Path;

use vmstream_qemu::Rule;

#[test]
fn every_rule_stands_in_the_documentation_as_it_is_reported() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/qemu-stream.md");
    let page = fs::read_to_string(page).expect("the page");

    for rule in Rule::ALL {
        let row = format!("| {} | {} |", rule.id(), rule.text());
        assert!(page.contains(&row), "{row}");
    }
}
