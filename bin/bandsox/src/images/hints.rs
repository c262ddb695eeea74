//! What a user can do about an image that could not be had.

use std::error::Error;
use std::io;

use bandsox_oci::{FetchError, PullError, SourceError, shown};

use crate::failure::Failure;

/// Advice about a text that names no image.
pub(super) fn of_name(text: &str, error: &SourceError) -> Option<String> {
    if matches!(error, SourceError::Empty) {
        Some("give a name such as ubuntu:24.04".to_owned())
    } else if !matches!(error, SourceError::Name { .. }) {
        None
    } else if text.contains("://") {
        let names = "a name such as ubuntu:24.04 or ghcr.io/owner/name";
        Some(format!("write {names}, and no address"))
    } else {
        Some(not_there(&shown(text)))
    }
}

/// Advice about an image that could not be pulled.
pub(super) fn of_pull(text: &str, error: &PullError) -> Option<String> {
    let is_file = FILES.iter().any(|ending| text.ends_with(ending)) && !text.contains(':');
    let text = shown(text);
    if is_file && matches!(error, PullError::NotHere { .. } | PullError::Fetch { .. }) {
        Some(not_there(&text))
    } else if matches!(error, PullError::NotHere { .. }) {
        Some(format!("`bandsox image pull {text}` brings it"))
    } else if let PullError::OtherPlatform { wanted, .. } = error {
        Some(format!("`bandsox image pull {text}` brings the one for {wanted} in its place"))
    } else {
        of_machine(error)
    }
}

/// A failure with advice about what the operating system or the network refused, if that is why.
pub(crate) fn advised(error: impl Into<Failure>) -> Failure {
    let failure = error.into();
    let hint = failure.cause().and_then(of_machine);
    failure.hint_if(hint)
}

/// Advice about what the operating system or the network refused, wherever it is in the chain.
fn of_machine(error: &(dyn Error + 'static)) -> Option<String> {
    let mut url = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(FetchError::Request { url: asked, .. }) = fetch_error(error) {
            url = Some(asked.as_str());
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&kind) {
                return Some(FULL.to_owned());
            } else if kind == io::ErrorKind::ConnectionRefused {
                return url.map(refused);
            }
        }
        if error.to_string().starts_with("dns error") {
            return Some(UNKNOWN_HOST.to_owned());
        }
        next = error.source();
    }
    None
}

/// `source()` of an error that boxes its source gives the box.
fn fetch_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a FetchError> {
    let boxed = error.downcast_ref::<Box<FetchError>>().map(AsRef::as_ref);
    boxed.or_else(|| error.downcast_ref())
}

fn not_there(text: &str) -> String {
    format!("if {text} is to be a file or directory: it is not there")
}

fn refused(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split('/').next().unwrap_or_default();
    let plain = if scheme == "https" {
        format!("; one without TLS wants --insecure-registry {host}")
    } else {
        String::new()
    };
    format!("is a registry running at {host}?{plain}")
}

/// How the names of root file systems end.
const FILES: [&str; 7] = [".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.zst", ".ext4", ".erofs"];
const FULL: &str = "the disk is full: `bandsox df` shows what takes how much, and `bandsox image prune --all` frees what no VM uses";
const UNKNOWN_HOST: &str = "is the registry's name right, and does this machine reach the network? without it: `bandsox image import`, or a mirror";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use bandsox_oci::{ImageStore, Layers, Patience, Policy, PullOptions, Source};

    use super::*;

    /// Pulls from where nobody listens; with a mirror of that kind, too, if one is named.
    fn refused(mirror: bool) -> (u16, PullError) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("has one").port();
        drop(listener);
        let mirror = mirror.then(|| format!("localhost:{port}=http://127.0.0.1:{port}"));
        (port, pulled(&format!("localhost:{port}/x"), mirror))
    }

    fn pulled(name: &str, mirror: Option<String>) -> PullError {
        let dir = tempfile::tempdir().expect("a directory");
        let images = ImageStore::open(dir.path()).expect("opens");
        let patience = Patience { attempts: 1, ..Patience::default() };
        let mut options = PullOptions { patience, ..PullOptions::default() };
        if let Some(mirrors) = mirror {
            options.registries.add_mirrors(&mirrors).expect("a mirror");
        }
        let source = Source::parse(name).expect("a name");
        let pulled = images.pull(&source, Policy::Always, &options, &Layers::default(), &|_| {});
        pulled.expect_err("nobody answers")
    }

    #[test]
    fn a_refused_connection_asks_for_the_registry_at_that_place() {
        let (port, error) = refused(false);

        let hint = of_pull("x", &error).expect("has advice");

        assert_eq!(hint, format!("is a registry running at localhost:{port}?"));
        let of_another = super::refused("https://registry.lan:5000/v2/");
        assert!(
            of_another.ends_with("wants --insecure-registry registry.lan:5000"),
            "{of_another}"
        );
    }

    #[test]
    fn a_registry_that_cannot_be_found_asks_for_its_name_and_the_network() {
        // By RFC 6761 there never is such a host.
        let error = pulled("nowhere.invalid/x", None);

        assert_eq!(of_pull("x", &error).as_deref(), Some(UNKNOWN_HOST));
    }

    #[test]
    fn mirrors_and_registry_both_say_why_they_failed() {
        let (port, error) = refused(true);

        let chain = Failure::from(error).chain().join(": ");

        let urls = [format!("http://127.0.0.1:{port}/"), format!("http://localhost:{port}/")];
        assert!(urls.iter().all(|url| chain.contains(url)), "{chain}");
        assert_eq!(chain.matches("Connection refused").count(), 2, "{chain}");
    }

    #[test]
    fn a_full_disk_names_what_frees_room() {
        for source in [28, 122].map(io::Error::from_raw_os_error) {
            let error = PullError::Store { reference: "x".to_owned(), source };
            assert!(of_pull("x", &error).is_some_and(|hint| hint.contains("prune")));
        }
        let source = io::ErrorKind::NotFound.into();
        assert_eq!(of_pull("x", &PullError::Store { reference: "x".to_owned(), source }), None);
    }

    #[test]
    fn an_address_and_a_file_that_is_not_there_get_their_own_advice() {
        let hint = |text: &str| of_name(text, &Source::parse(text).expect_err("is no name"));

        assert!(hint("docker://ubuntu").is_some_and(|hint| hint.contains("and no address")));
        assert!(hint("ROOT.tar").is_some_and(|hint| hint.contains("it is not there")));
        let not_here = PullError::NotHere { reference: "x".to_owned() };
        let hint_of_file = of_pull("root.tar", &not_here).expect("has advice");
        assert_eq!(hint_of_file, not_there("root.tar"));
        assert_eq!(
            of_pull("root", &not_here).as_deref(),
            Some("`bandsox image pull root` brings it")
        );
        assert!(hint("").is_some_and(|hint| hint.contains("ubuntu:24.04")));
    }
}
