//! Images made by `umoci`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output();
    let out =
        out.unwrap_or_else(|error| panic!("{program}: {error}; cargo xtask setup installs it"));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {arguments:?}: {text}");
}

/// An OCI layout below `dir` with an image `tag` of so many layers of so many random bytes each.
pub(crate) fn layout(dir: &Path, tag: &str, layers: usize, bytes: usize) -> PathBuf {
    let layout = dir.join("layout");
    if !layout.exists() {
        run("umoci", &["init", "--layout", text(&layout)]);
    }
    let image = format!("{}:{tag}", text(&layout));
    run("umoci", &["new", "--image", &image]);
    for index in 0..layers {
        let tree = dir.join(format!("tree-{tag}-{index}"));
        fs::create_dir_all(&tree).expect("makes a directory");
        fs::write(tree.join(format!("file{index}")), random(bytes)).expect("writes a file");
        run(
            "umoci",
            &["insert", "--rootless", "--image", &image, text(&tree), &format!("/{index}")],
        );
    }
    let config = ["--config.env", "A=b", "--config.cmd", "/bin/sh", "--config.workingdir", "/srv"];
    let ports = ["--config.exposedports", "80/tcp", "--config.user", "daemon"];
    run("umoci", &[&["config", "--image", &image][..], &config, &ports].concat());
    layout
}

/// Bytes that do not compress.
pub(crate) fn random(len: usize) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let source = fs::File::open("/dev/urandom").expect("opens /dev/urandom");
    source.take(len.try_into().expect("fits")).read_to_end(&mut bytes).expect("reads");
    bytes
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
