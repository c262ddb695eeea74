//! Where the tests find what is too large for the repository.

use std::path::PathBuf;

/// The Debian kernel package to test with.
pub(crate) fn kernel_deb() -> PathBuf {
    let path = std::env::var_os("BANDSOX_TEST_KERNEL_DEB").map(PathBuf::from);
    let path = path.expect("BANDSOX_TEST_KERNEL_DEB is unset: run `cargo xtask test`, or point it at a linux-image-*-cloud-amd64_*.deb");
    assert!(path.exists(), "BANDSOX_TEST_KERNEL_DEB is {}, which does not exist", path.display());
    path
}
