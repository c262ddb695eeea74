//! The repository's own Rust files, read once for every check.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bandsox_e2e::workspace_root;

/// Folders that hold Rust of ours.
const ROOTS: [&str; 5] = ["crates", "bin", "fuzz", "tests", "xtask"];

/// A file of ours.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root of the work tree.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// All of them, in order of path.
#[derive(Debug)]
pub(crate) struct Sources(pub(crate) Vec<Source>);

impl Sources {
    pub(crate) fn read() -> Result<Self> {
        let mut files = Vec::new();
        for root in ROOTS {
            collect(&workspace_root().join(root), "rs", &mut files)?;
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self(files))
    }
}

/// Reads every file below `dir` that has this extension, except in `target` and hidden folders.
pub(super) fn collect(dir: &Path, extension: &str, into: &mut Vec<Source>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&path, extension, into)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(workspace_root()).unwrap_or(&path).to_owned();
            into.push(Source { path, text });
        }
    }
    Ok(())
}
