//! `docs/unsafe.md`: every module that may use `unsafe`, and why. Made anew by `BLESS=1 cargo xtask check`.

use std::env;
use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use bandsox_e2e::workspace_root;

use super::sources::{Source, Sources};

const LIST: &str = "docs/unsafe.md";

/// How a module opts in. Split, so that this file does not list itself.
const OPT_IN: &str = concat!("#![expect(", "unsafe_code");

pub(super) fn faults(sources: &Sources) -> Result<Vec<String>> {
    let path = workspace_root().join(LIST);
    let want = list(sources);
    if env::var_os("BLESS").is_some() {
        fs::write(&path, &want)?;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    Ok(if found == want {
        Vec::new()
    } else {
        vec![format!(
            "{LIST} is out of date; run `BLESS=1 cargo xtask check` and look at the difference"
        )]
    })
}

fn list(sources: &Sources) -> String {
    let mut text = String::from(
        "# Modules that may use `unsafe`\n\n\
         The workspace denies `unsafe`; these modules opt in, each with its reason. Every block in them argues why it \
         is sound.\n\
         This list is made by `BLESS=1 cargo xtask check` and checked by `cargo xtask test`.\n\n\
         | module | blocks | why |\n|---|---|---|\n",
    );
    for source in sources.0.iter().filter(|source| source.text.contains(OPT_IN)) {
        let blocks =
            source.text.matches("unsafe {").count() + source.text.matches("unsafe impl").count();
        // Writing to a string cannot fail.
        writeln!(text, "| `{}` | {blocks} | {} |", source.path.display(), reason(source)).ok();
    }
    text
}

/// The `UNSAFETY` note if there is one, else the attribute's reason.
fn reason(source: &Source) -> String {
    let lines = source.text.lines();
    let mut note = lines.skip_while(|line| !line.starts_with("// UNSAFETY:")).peekable();
    if note.peek().is_some() {
        let comment = note.map_while(|line| line.strip_prefix("//"));
        let words = comment.collect::<String>();
        return words.trim().trim_start_matches("UNSAFETY:").trim().to_owned();
    }
    let after = source.text.split(OPT_IN).nth(1).unwrap_or_default();
    after.split('"').nth(1).unwrap_or("no reason given").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_of_a_module_is_preferred_to_its_attribute() {
        let text =
            format!("// UNSAFETY: maps memory,\n// and only here.\n{OPT_IN}, reason = \"see\")]\n");
        let noted = Source { path: "a.rs".into(), text };
        let plain = Source { path: "b.rs".into(), text: format!("{OPT_IN}, reason = \"ioctl\")]") };

        assert_eq!(reason(&noted), "maps memory, and only here.");
        assert_eq!(reason(&plain), "ioctl");
    }
}
