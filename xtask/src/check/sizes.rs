//! The tail of file and crate sizes. It informs; nothing fails by it.

use std::collections::BTreeMap;

use super::sources::{Source, Sources};

/// Where a file is worth a second look, in lines that are not tests.
const LONG_FILE_LINES: usize = 500;
/// Where a crate does too much.
const LARGE_CRATE_LINES: usize = 8000;
/// First line of a file that is long because it is a table.
const TABLE_MARK: &str = "// size: table";

pub(super) fn report(sources: &Sources) -> Vec<String> {
    let mut crates: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for source in &sources.0 {
        let count = code_lines(source);
        if count > LONG_FILE_LINES && !source.text.starts_with(TABLE_MARK) {
            lines.push(format!("{} has {count} lines", source.path.display()));
        }
        let name = source.path.iter().take(2).map(|part| part.to_string_lossy());
        *crates.entry(name.collect::<Vec<_>>().join("/")).or_default() += count;
    }
    let large = crates.iter().filter(|(_, count)| **count > LARGE_CRATE_LINES);
    lines.extend(large.map(|(name, count)| format!("{name} has {count} lines")));
    let total: usize = crates.values().sum();
    lines.push(format!("{} files, {total} lines without unit tests", sources.0.len()));
    lines
}

/// Lines above the file's own tests.
fn code_lines(source: &Source) -> usize {
    if source.path.ends_with("tests.rs") {
        return 0;
    }
    source.text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}
