//! What the user names an image by.

use std::fmt;
use std::path::{Path, PathBuf};

use oci_spec::distribution::{ParseError, Reference};

use crate::digest::{Digest, DigestError};
use crate::name::registry_name;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// `ubuntu`, `ghcr.io/owner/name:tag`, `name@sha256:…`: a registry, by Docker Hub's naming rules.
    Registry(Reference),
    /// `oci:DIR[:TAG]` or `oci:DIR@sha256:…`: a directory in OCI image layout.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// Which image in it.
        pick: Pick,
    },
    /// `docker-archive:FILE[:NAME:TAG]`: what `docker save` writes.
    Archive {
        /// The file; [`Input::Stdin`] for `-`.
        input: Input,
        /// Which image in it.
        pick: Pick,
    },
}

/// Which image of several.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pick {
    /// The only one.
    Only,
    /// The one with this name.
    Name(String),
    /// The one whose manifest has this digest.
    Digest(Digest),
}

/// Where an archive is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Our standard input.
    Stdin,
}

/// Whether an argument is a path or names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file or directory of this host: a disk, a tar, a root directory.
    Path,
    /// Something for [`Source::parse`].
    Reference,
}

/// Why a text does not name an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing was given.
    #[error("the image's name is empty")]
    Empty,
    /// It is neither a name nor one of the known prefixes.
    #[error(
        "{text:?} is not an image name ({rule}); want name[:tag][@digest], oci:DIR[:tag] or docker-archive:FILE"
    )]
    Name {
        /// What was given, cut by [`shown`].
        text: String,
        /// The rule that it breaks.
        rule: ParseError,
    },
    /// A prefix with nothing behind it.
    #[error("{prefix} wants a path behind it")]
    NoPath {
        /// The prefix.
        prefix: &'static str,
    },
    /// Another digest than sha256.
    #[error("image {text:?} cannot be checked")]
    Digest {
        /// What was given, cut by [`shown`].
        text: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
    /// A tag that no image can have.
    #[error(
        "{tag:?} is not a tag: letters, digits, '_', '.', '-', '/' and ':', at most 255 of them"
    )]
    Tag {
        /// The tag, cut by [`shown`].
        tag: String,
    },
}

/// Decides whether `arg` is a path: it begins with `/`, `./` or `../`, is `.` or `..`, or such a file exists.
#[must_use]
pub fn classify(arg: &str, exists: impl FnOnce(&Path) -> bool) -> Kind {
    let by_form = ["/", "./", "../"].iter().any(|prefix| arg.starts_with(prefix))
        || [".", ".."].contains(&arg);
    if by_form || (!arg.is_empty() && exists(Path::new(arg))) {
        Kind::Path
    } else {
        Kind::Reference
    }
}

impl Source {
    /// Parses what the user typed, for this host: of `oci:A:B:C` the directory is the longest of `A:B:C`, `A:B` and `A` that
    /// is there, seen from `cwd`, and as in [`Source::parse`] if none is; likewise the file of a `docker-archive:`.
    ///
    /// # Errors
    ///
    /// [`SourceError`] says which rule the text breaks.
    pub fn of_host(text: &str, cwd: &Path) -> Result<Self, SourceError> {
        Self::parsed(text, |path| cwd.join(path).exists())
    }

    /// Parses what the user typed. Of `oci:A:B:C` the directory is `A`.
    ///
    /// # Errors
    ///
    /// [`SourceError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Self::parsed(text, |_| false)
    }

    fn parsed(text: &str, is_there: impl Fn(&str) -> bool) -> Result<Self, SourceError> {
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        if let Some(rest) = text.strip_prefix(OCI) {
            let (path, pick) = split_layout(rest, is_there)?;
            let dir = PathBuf::from(path);
            return if path.is_empty() {
                Err(SourceError::NoPath { prefix: OCI })
            } else {
                Ok(Self::Layout { dir, pick })
            };
        }
        if let Some(rest) = text.strip_prefix(DOCKER_ARCHIVE) {
            let (path, name) = split_path(rest, is_there);
            let input = match path {
                "" => return Err(SourceError::NoPath { prefix: DOCKER_ARCHIVE }),
                "-" => Input::Stdin,
                path => Input::File(PathBuf::from(path)),
            };
            let pick = match name.filter(|name| !name.is_empty()) {
                None => Pick::Only,
                Some(name) => Pick::Name(registry_name(name)?.whole()),
            };
            return Ok(Self::Archive { input, pick });
        }
        registry_name(text).map(Self::Registry)
    }

    /// The name under which what comes from here is kept: equal for all ways to write the same thing.
    ///
    /// `cwd` makes a relative path whole. An archive on standard input has none: see [`crate::ImageStore::pull`].
    #[must_use]
    pub fn canonical(&self, cwd: &Path) -> String {
        let whole = |path: &Path| clean(&cwd.join(path));
        match self {
            Self::Registry(reference) => reference.whole(),
            Self::Layout { dir, pick } => {
                let sign = if matches!(pick, Pick::Digest(_)) { "@" } else { ":" };
                format!("{OCI}{}{}", whole(dir).display(), pick.behind(sign))
            }
            Self::Archive { input: Input::Stdin, pick } => {
                format!("{DOCKER_ARCHIVE}-{}", pick.behind(":"))
            }
            Self::Archive { input: Input::File(path), pick } => {
                format!("{DOCKER_ARCHIVE}{}{}", whole(path).display(), pick.behind(":"))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical(Path::new("")))
    }
}

impl Pick {
    fn behind(&self, sign: &str) -> String {
        match self {
            Self::Only => String::new(),
            Self::Name(name) => format!("{sign}{name}"),
            Self::Digest(digest) => format!("{sign}{digest}"),
        }
    }
}

/// `DIR`, `DIR:TAG` or `DIR@sha256:…`; a tag may have colons, too.
fn split_layout(rest: &str, is_there: impl Fn(&str) -> bool) -> Result<(&str, Pick), SourceError> {
    if let Some((dir, digest)) = rest.rsplit_once('@')
        && digest.starts_with("sha256:")
    {
        let error = |source| SourceError::Digest { text: shown(rest), source };
        return Ok((dir, Pick::Digest(digest.parse().map_err(error)?)));
    }
    let (dir, Some(tag)) = split_path(rest, is_there) else {
        return Ok((rest, Pick::Only));
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/:@+".contains(&byte);
    if tag.is_empty() || tag.len() > 255 || !tag.bytes().all(fits) {
        return Err(SourceError::Tag { tag: shown(tag) });
    }
    Ok((dir, Pick::Name(tag.to_owned())))
}

/// The longest part up to a colon, or to the end, that is there, or else all up to the first colon; and what is behind it.
fn split_path(rest: &str, is_there: impl Fn(&str) -> bool) -> (&str, Option<&str>) {
    let colons = || rest.match_indices(':').map(|(at, _)| at);
    let split = |at| rest.split_at_checked(at).unwrap_or((rest, ""));
    let mut splits = [rest.len()].into_iter().chain(colons().rev()).map(split);
    let there = splits.find(|(path, _)| !path.is_empty() && is_there(path));
    let first = || split(colons().next().unwrap_or(rest.len()));
    let (path, behind) = there.unwrap_or_else(first);
    (path, behind.strip_prefix(':'))
}

/// Without `.`, doubled slashes and a slash at the end; `..` stays, since what it means depends on links.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

/// What of a text that somebody gave is shown to them again: all of an honest name; one of more than 160 characters is cut to
/// 60.
#[must_use]
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        None => text.to_owned(),
        Some(_) => text.chars().take(60).chain(['…']).collect(),
    }
}

/// Longest text that is shown whole: a usual name with a digest. Unit: characters.
const MOST_SHOWN: usize = 160;
const OCI: &str = "oci:";
const DOCKER_ARCHIVE: &str = "docker-archive:";

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Source::parse(text).expect("parses").canonical(Path::new("/work"))
    }

    #[test]
    fn short_names_mean_docker_hub_and_latest() {
        assert_eq!(canonical("ubuntu"), "docker.io/library/ubuntu:latest");
        assert_eq!(canonical("owner/name:1"), "docker.io/owner/name:1");
        assert_eq!(canonical("index.docker.io/library/ubuntu"), "docker.io/library/ubuntu:latest");
        assert_eq!(canonical("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        let digest = Digest::of(b"");
        assert_eq!(
            canonical(&format!("ubuntu:24.04@{digest}")),
            format!("docker.io/library/ubuntu:24.04@{digest}")
        );
    }

    #[test]
    fn layouts_and_archives_are_told_by_their_prefix_and_become_absolute() {
        assert_eq!(canonical("oci:./images//debian/:12"), "oci:/work/images/debian:12");
        assert_eq!(canonical("oci:/images"), "oci:/images");
        let digest = Digest::of(b"");
        assert_eq!(canonical(&format!("oci:x@{digest}")), format!("oci:/work/x@{digest}"));
        assert_eq!(
            canonical("docker-archive:x.tar:busybox"),
            "docker-archive:/work/x.tar:docker.io/library/busybox:latest"
        );
        assert_eq!(canonical("docker-archive:-"), "docker-archive:-");
    }

    #[test]
    fn of_a_layout_with_colons_the_longest_directory_that_is_there_counts() {
        let host = tempfile::tempdir().expect("a temporary directory");
        for dir in ["a", "a:b", "c", "c:1/d:2"] {
            std::fs::create_dir_all(host.path().join(dir)).expect("makes a directory");
        }
        let split = |text: &str| match Source::of_host(text, host.path()) {
            Ok(Source::Layout { dir, pick: Pick::Only }) => (dir.display().to_string(), None),
            Ok(Source::Layout { dir, pick: Pick::Name(tag) }) => {
                (dir.display().to_string(), Some(tag))
            }
            other => panic!("{text}: {other:?}"),
        };
        let is = |dir: &str, tag: Option<&str>| (dir.to_owned(), tag.map(str::to_owned));

        assert_eq!(split("oci:a:b"), is("a:b", None));
        assert_eq!(split("oci:a:b:12"), is("a:b", Some("12")));
        assert_eq!(split("oci:a:x:12"), is("a", Some("x:12")));
        assert_eq!(split("oci:./c:1/d:2:t"), is("./c:1/d:2", Some("t")));
        assert_eq!(split("oci:c:1"), is("c:1", None), "c:1 has come with c:1/d:2");
        assert_eq!(split("oci:none:a:b"), is("none", Some("a:b")));
        std::fs::write(host.path().join("s:1.tar"), "").expect("writes");
        let archive = Source::of_host("docker-archive:s:1.tar:x", host.path()).expect("parses");
        let file = "docker-archive:/work/s:1.tar:docker.io/library/x:latest";
        assert_eq!(archive.canonical(Path::new("/work")), file);
        let text = "oci:a:b:12";
        let canonical = |source: Source| source.canonical(Path::new("/work"));
        assert_eq!(
            Source::of_host(text, host.path()).map(canonical),
            Source::parse(text).map(canonical),
            "a name means the same when its directory has gone"
        );
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_rule() {
        let refused = |text: &str| Source::parse(text).expect_err("is refused").to_string();

        assert_eq!(refused(""), "the image's name is empty");
        assert!(refused(&"A".repeat(161)).contains(&format!("{:?}", "A".repeat(60) + "…")));
        assert!(refused(&"A".repeat(160)).contains(&"A".repeat(160)));
        assert!(refused("Ubuntu:latest").contains("is not an image name"));
        assert!(refused("../x").contains("is not an image name"));
        assert!(refused("oci:").contains("wants a path"));
        assert!(refused("docker-archive::x").contains("wants a path"));
        assert!(refused("oci:dir:a b").contains("is not a tag"));
        assert!(refused(&format!("x@sha512:{}", "0".repeat(128))).contains("cannot be checked"));
    }

    #[test]
    fn a_path_is_what_looks_like_one_or_exists() {
        for arg in ["/a", "./a", "../a", ".", ".."] {
            assert_eq!(classify(arg, |_| false), Kind::Path);
        }
        assert_eq!(classify("ubuntu", |_| false), Kind::Reference);
        assert_eq!(classify("rootfs.tar", |path| path == Path::new("rootfs.tar")), Kind::Path);
        assert_eq!(classify("oci:./x", |_| false), Kind::Reference);
    }
}
