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
    /// It is neither a name nor one of the known prefixes.
    #[error(
        "{text:?} is not an image name ({rule}); want name[:tag][@digest], oci:DIR[:tag] or docker-archive:FILE"
    )]
    Name {
        /// What was given, cut to 300 characters.
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
        /// What was given, cut to 300 characters.
        text: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
    /// A tag that no image can have.
    #[error(
        "{tag:?} is not a tag: letters, digits, '_', '.', '-', '/' and ':', at most 255 of them"
    )]
    Tag {
        /// The tag, cut to 300 characters.
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
    /// Parses what the user typed.
    ///
    /// # Errors
    ///
    /// [`SourceError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        if let Some(rest) = text.strip_prefix(OCI) {
            let (path, pick) = split_layout(rest)?;
            let dir = PathBuf::from(path);
            return if path.is_empty() {
                Err(SourceError::NoPath { prefix: OCI })
            } else {
                Ok(Self::Layout { dir, pick })
            };
        }
        if let Some(rest) = text.strip_prefix(DOCKER_ARCHIVE) {
            let (path, name) = rest.split_once(':').unwrap_or((rest, ""));
            let input = match path {
                "" => return Err(SourceError::NoPath { prefix: DOCKER_ARCHIVE }),
                "-" => Input::Stdin,
                path => Input::File(PathBuf::from(path)),
            };
            let pick =
                if name.is_empty() { Pick::Only } else { Pick::Name(registry_name(name)?.whole()) };
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

/// `DIR`, `DIR:TAG` or `DIR@sha256:…`; a tag has no slash in front of its first colon.
fn split_layout(rest: &str) -> Result<(&str, Pick), SourceError> {
    if let Some((dir, digest)) = rest.rsplit_once('@')
        && digest.starts_with("sha256:")
    {
        let error = |source| SourceError::Digest { text: shown(rest), source };
        return Ok((dir, Pick::Digest(digest.parse().map_err(error)?)));
    }
    let Some((dir, tag)) = rest.split_once(':') else {
        return Ok((rest, Pick::Only));
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/:@+".contains(&byte);
    if tag.is_empty() || tag.len() > 255 || !tag.bytes().all(fits) {
        return Err(SourceError::Tag { tag: shown(tag) });
    }
    Ok((dir, Pick::Name(tag.to_owned())))
}

/// Without `.`, doubled slashes and a slash at the end; `..` stays, since what it means depends on links.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

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
    fn what_is_no_name_is_refused_with_the_rule() {
        let refused = |text: &str| Source::parse(text).expect_err("is refused").to_string();

        assert!(refused("").contains("at least one component"));
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
