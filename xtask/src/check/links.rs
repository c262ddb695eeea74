//! A relative link in a document leads to a file.

use std::path::Path;

use anyhow::Result;
use bandsox_e2e::workspace_root;

use super::sources::{Source, collect};

pub(super) fn faults() -> Result<Vec<String>> {
    let mut documents = Vec::new();
    collect(workspace_root(), "md", &mut documents)?;
    Ok(documents.iter().flat_map(dead_links).collect())
}

fn dead_links(document: &Source) -> Vec<String> {
    let dir = document.path.parent().unwrap_or(Path::new(""));
    let is_dead = |link: &&str| !workspace_root().join(dir).join(link).exists();
    let dead = links(&document.text).filter(is_dead);
    dead.map(|link| format!("{} links to {link}, which is not there", document.path.display()))
        .collect()
}

/// The relative targets of `[text](target)`, without their `#anchors`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let relative = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    relative.filter_map(|target| target.split('#').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_are_looked_for() {
        let text = "[a](docs/a.md#part) [b](https://b) [c](#c) [d](../d)";

        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md", "../d"]);
    }
}
