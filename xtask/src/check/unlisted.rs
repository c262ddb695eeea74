//! A file beside `tests/main.rs` that it does not name is compiled by nobody and fails for nobody.

use std::ffi::OsStr;
use std::path::Path;

use super::sources::{Source, Sources};

pub(super) fn faults(sources: &Sources) -> Vec<String> {
    let mains = sources.0.iter().filter(|source| source.path.ends_with("tests/main.rs"));
    mains.flat_map(|main| forgotten(main, sources)).collect()
}

fn forgotten(main: &Source, sources: &Sources) -> Vec<String> {
    let dir = main.path.parent().unwrap_or(Path::new(""));
    let beside = sources.0.iter().filter(|source| source.path.parent() == Some(dir));
    let names = beside.filter_map(|source| source.path.file_stem().and_then(OsStr::to_str));
    names
        .filter(|name| *name != "main" && !main.text.contains(&format!("mod {name};")))
        .map(|name| format!("{} does not say `mod {name};`", main.path.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_main_does_not_name_is_a_fault() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let sources = Sources(vec![
            source("crates/a/tests/main.rs", "mod known;\n"),
            source("crates/a/tests/known.rs", ""),
            source("crates/a/tests/lost.rs", ""),
        ]);

        assert_eq!(faults(&sources), ["crates/a/tests/main.rs does not say `mod lost;`"]);
    }
}
