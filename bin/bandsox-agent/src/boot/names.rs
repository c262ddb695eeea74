//! `/etc/hostname` and `/etc/hosts`, which container images leave to whoever runs them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::console::say;

/// Writes those of the two files below `root` that are missing or empty. What the image has of its own stays.
///
/// `resolv.conf` is left alone: there is no name server to name.
pub(super) fn provide(root: &Path, hostname: &str) {
    let etc = root.join("etc");
    // What there is need not be made; what cannot be made is reported by the writes.
    DirBuilder::new().mode(0o755).create(&etc).ok();
    for (name, text) in [("hostname", format!("{hostname}\n")), ("hosts", hosts(hostname))] {
        let path = etc.join(name);
        if let Err(error) = provide_one(&path, &text) {
            say(&format!("cannot write {}: {error}", path.display()));
        }
    }
}

fn provide_one(path: &Path, text: &str) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() && about.len() == 0 => {}
        // A link is somebody's choice, even if it leads nowhere yet.
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::write(path, text)
}

/// As Debian's installer writes it: the name has an address of its own, so that it resolves without any network.
fn hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_root_without_etc_gets_both_files() {
        let root = tempfile::tempdir().expect("a temporary directory");

        provide(root.path(), "box");

        let read = |name| fs::read_to_string(root.path().join("etc").join(name)).expect("reads");
        assert_eq!(read("hostname"), "box\n");
        assert!(read("hosts").starts_with("127.0.0.1\tlocalhost\n127.0.1.1\tbox\n::1\t"));
    }

    #[test]
    fn empty_files_are_filled_and_full_ones_and_links_stay() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let etc = root.path().join("etc");
        fs::create_dir(&etc).expect("makes");
        fs::write(etc.join("hosts"), "").expect("writes");
        fs::write(etc.join("hostname"), "own\n").expect("writes");

        provide(root.path(), "box");
        assert!(fs::read_to_string(etc.join("hosts")).expect("reads").contains("\tbox\n"));
        assert_eq!(fs::read_to_string(etc.join("hostname")).expect("reads"), "own\n");

        fs::remove_file(etc.join("hosts")).expect("removes");
        symlink("nowhere", etc.join("hosts")).expect("links");
        provide(root.path(), "box");
        assert!(!etc.join("nowhere").exists());
    }
}
