//! What the names of a layer's members mean.
//!
//! Source: OCI image-spec 1.1, `layer.md`, "Whiteouts" and "Opaque Whiteout".

use bandsox_erofs::components;

/// What a member does to the layers below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It adds a file; nothing special about its name.
    Adds,
    /// It takes away the file at this path.
    Removes(Vec<u8>),
    /// It takes away all that lower layers have in the directory at this path.
    Empties(Vec<u8>),
}

/// A name that the format reserves and that means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadName {
    /// `.wh.` with nothing behind it, or with `.` or `..`, which can be nobody's name.
    NamesNothing,
    /// A directory called so, with something in it.
    Directory,
}

/// Tells what a member called `path` does.
pub(super) fn meaning(path: &[u8]) -> Result<Meaning, BadName> {
    let names: Vec<_> = components(path).collect();
    let Some((last, above)) = names.split_last() else {
        return Ok(Meaning::Adds);
    };
    if above.iter().any(|name| name.starts_with(PREFIX)) && !is_bookkeeping(path) {
        return Err(BadName::Directory);
    }
    if *last == OPAQUE {
        return Ok(Meaning::Empties(above.join(&b'/')));
    }
    match last.strip_prefix(PREFIX) {
        None => Ok(Meaning::Adds),
        Some(b"" | b"." | b"..") => Err(BadName::NamesNothing),
        Some(name) => Ok(Meaning::Removes([above, &[name]].concat().join(&b'/'))),
    }
}

/// Whether a path, or the name of a file in the root, belongs to what AUFS wrote into its layers besides. Hard links may
/// name files in there, yet none of it is in the image.
pub(super) fn is_bookkeeping(path: &[u8]) -> bool {
    components(path).next().is_some_and(|name| name.starts_with(BOOKKEEPING))
}

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const BOOKKEEPING: &[u8] = b".wh..wh.";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Result<Meaning, BadName> {
        meaning(path.as_bytes())
    }

    #[test]
    fn a_marker_names_its_neighbour_whatever_the_path_looks_like() {
        assert_eq!(of("./a//b/.wh.c"), Ok(Meaning::Removes(b"a/b/c".to_vec())));
        assert_eq!(of("/.wh.c/"), Ok(Meaning::Removes(b"c".to_vec())));
        assert_eq!(of(".wh..hidden"), Ok(Meaning::Removes(b".hidden".to_vec())));
        assert_eq!(of(".wh...."), Ok(Meaning::Removes(b"...".to_vec())));
        assert_eq!(of("a/.wh..wh..opq"), Ok(Meaning::Empties(b"a".to_vec())));
        assert_eq!(of("./.wh..wh..opq"), Ok(Meaning::Empties(Vec::new())));
    }

    #[test]
    fn only_the_whole_prefix_at_the_front_of_a_name_is_a_marker() {
        for path in ["", "/", "a", ".wh", ".whx", "a.wh.b", "wh.a", ".WH.a"] {
            assert_eq!(of(path), Ok(Meaning::Adds), "{path}");
        }
    }

    #[test]
    fn markers_that_name_nothing_or_climb_are_refused() {
        for path in [".wh.", "a/.wh.", ".wh..", "a/.wh..", ".wh...", "a/.wh..."] {
            assert_eq!(of(path), Err(BadName::NamesNothing), "{path}");
        }
    }

    #[test]
    fn a_marker_has_nothing_in_it_but_for_aufs_own_directories() {
        assert_eq!(of("a/.wh.b/c"), Err(BadName::Directory));
        assert_eq!(of(".wh.b/c"), Err(BadName::Directory));
        assert_eq!(of(".wh..wh.plnk/1.2"), Ok(Meaning::Adds));
        assert!(is_bookkeeping(b"./.wh..wh.plnk/1.2"));
        assert!(!is_bookkeeping(b"a/.wh..wh.plnk"));
    }
}
