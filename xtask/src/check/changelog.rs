//! CHANGELOG.md keeps its shape: what is unreleased first, then releases from the newest, in known sections.

use std::fs;

use anyhow::{Context, Result};
use bandsox_e2e::workspace_root;

const SECTIONS: [&str; 5] = ["Added", "Changed", "Fixed", "Removed", "Security"];

pub(super) fn faults() -> Result<Vec<String>> {
    let path = workspace_root().join("CHANGELOG.md");
    Ok(faults_in(&fs::read_to_string(path).context("there is no CHANGELOG.md")?))
}

fn faults_in(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("# Changelog\n") {
        faults.push("does not begin with `# Changelog`".to_owned());
    }
    let releases: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    if releases.first() != Some(&"Unreleased") {
        faults.push("its first release is not `## Unreleased`".to_owned());
    }
    let versions: Vec<_> = releases.iter().skip(1).map(|name| (version(name), *name)).collect();
    let unreadable = versions.iter().filter(|(version, _)| version.is_none());
    faults.extend(unreadable.map(|(_, name)| format!("`## {name}` is not `## X.Y.Z (date)`")));
    if !versions.is_sorted_by(|newer, older| newer.0 > older.0) {
        faults.push("releases are not in order, the newest first".to_owned());
    }
    let sections = text.lines().filter_map(|line| line.strip_prefix("### "));
    let unknown = sections.filter(|name| !SECTIONS.contains(name));
    faults.extend(unknown.map(|name| format!("`### {name}` is none of {}", SECTIONS.join(", "))));
    faults
}

fn version(name: &str) -> Option<Vec<u32>> {
    let parts: Option<Vec<u32>> =
        name.split(' ').next()?.split('.').map(|part| part.parse().ok()).collect();
    parts.filter(|parts| parts.len() == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_in_order_has_no_fault() {
        let text = "# Changelog\n\n## Unreleased\n\n### Added\n\n## 4.1.0 (x)\n\n## 4.0.0 (x)\n";

        assert!(faults_in(text).is_empty());
    }

    #[test]
    fn releases_out_of_order_and_unknown_sections_are_faults() {
        let text = "# Changelog\n\n## Unreleased\n\n### Stuff\n\n## 4.0.0\n\n## 4.1.0\n";

        assert_eq!(faults_in(text).len(), 2);
    }
}
