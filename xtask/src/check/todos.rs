//! Something left to do names the issue that will do it.

use super::sources::Sources;

/// Split, so that this file does not find itself.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

pub(super) fn faults(sources: &Sources) -> Vec<String> {
    let lines = sources.0.iter().flat_map(|source| {
        source.text.lines().enumerate().map(move |(at, line)| (source, at + 1, line))
    });
    lines
        .filter(|(_, _, line)| is_loose(line))
        .map(|(source, at, line)| {
            format!("{}:{at}: {} without (#issue)", source.path.display(), line.trim())
        })
        .collect()
}

/// True for a comment with a mark that no `(#number)` follows.
fn is_loose(line: &str) -> bool {
    let Some((_, comment)) = line.split_once("//") else { return false };
    MARKS.iter().any(|mark| {
        comment.split_once(mark).is_some_and(|(before, after)| {
            let is_word = !before.ends_with(char::is_alphanumeric)
                && !after.starts_with(char::is_alphanumeric);
            is_word && !after.starts_with("(#")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_without_an_issue_is_loose() {
        let mark = MARKS[0];

        assert!(is_loose(&format!("let x = 1; // {mark}: later")));
        assert!(!is_loose(&format!("// {mark}(#12): later")));
        assert!(!is_loose(&format!("let x = \"{mark}\";")));
    }
}
