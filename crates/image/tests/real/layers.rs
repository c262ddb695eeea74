//! Layers made by real programs, and what other programs make of them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bandsox_image::base::{Base, Layer, Limits, from_layers};
use tempfile::TempDir;

use crate::base::{chain, path, plant, run};

/// A directory and the layers of its history: each one holds what changed since the one before.
pub(crate) struct History {
    dir: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) layers: Vec<PathBuf>,
}

impl History {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("creates");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmods");
        fs::create_dir(dir.path().join("images")).expect("creates");
        Self { dir, root, layers: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds a layer of the root with everything in it.
    pub(crate) fn whole(&mut self) {
        self.archive(&["."], &[], &[]);
    }

    /// Adds a layer of these files of the root, directories without their content, and these markers.
    pub(crate) fn changes(&mut self, files: &[&str], markers: &[&str]) {
        self.archive(files, markers, &["--no-recursion"]);
    }

    fn archive(&mut self, files: &[&str], markers: &[&str], options: &[&str]) {
        let number = self.layers.len();
        let marks = self.path(&format!("marks-{number}"));
        fs::create_dir(&marks).expect("creates");
        for marker in markers {
            let marker = marks.join(marker);
            fs::create_dir_all(marker.parent().expect("has one")).expect("creates");
            fs::write(marker, b"").expect("writes");
        }
        let layer = self.path(&format!("layer-{number}.tar"));
        let mut arguments = vec!["--format=posix", "--sort=name", "-S", "--xattrs"];
        arguments.extend(["--xattrs-include=*", "-cf", path(&layer)]);
        arguments.extend(options);
        // Markers last: where they stand must not matter.
        arguments.extend(["-C", path(&self.root)].iter().chain(files));
        if !markers.is_empty() {
            arguments.extend(["-C", path(&marks)].iter().chain(markers));
        }
        run("tar", &arguments);
        self.layers.push(layer);
    }

    pub(crate) fn build(&self, key: &str, layers: &[PathBuf]) -> Base {
        let layers = layers.iter().map(|layer| {
            let digest = run("sha256sum", &[path(&plain(layer))]).stdout;
            let digest = String::from_utf8_lossy(&digest[..64]).into_owned();
            let blob = File::open(layer).expect("opens");
            Ok::<_, Infallible>(Layer {
                blob,
                label: path(layer).to_owned(),
                diff_id: Some(format!("sha256:{digest}")),
            })
        });
        let images = self.path("images");
        from_layers(layers, key, &images, &Limits::default(), &mut |_| {})
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }
}

/// The archive that was compressed to `layer`, beside it.
fn plain(layer: &Path) -> PathBuf {
    if layer.extension().is_some_and(|extension| extension == "tar") {
        layer.to_owned()
    } else {
        layer.with_extension("")
    }
}

/// Three layers that do everything to a planted directory that layers can do.
pub(crate) fn eventful() -> History {
    let mut history = History::new();
    let root = history.root.clone();
    plant(&root);
    fs::create_dir_all(root.join("opaque/deep")).expect("creates");
    fs::write(root.join("opaque/old"), b"old").expect("writes");
    fs::write(root.join("opaque/deep/old"), vec![b'o'; 100_000]).expect("writes");
    history.whole();

    fs::remove_file(root.join("a b")).expect("removes");
    fs::remove_dir_all(root.join("opaque")).expect("removes");
    fs::create_dir(root.join("opaque")).expect("creates");
    fs::write(root.join("opaque/new"), b"new").expect("writes");
    fs::rename(root.join("empty"), root.join("moved")).expect("renames");
    fs::remove_file(root.join(".hidden")).expect("removes");
    fs::create_dir(root.join(".hidden")).expect("creates");
    fs::write(root.join(".hidden/inside"), vec![b'i'; 5000]).expect("writes");
    fs::write(root.join("size-65536"), vec![b'r'; 70_000]).expect("writes");
    fs::set_permissions(root.join("size-1000003"), fs::Permissions::from_mode(0o400))
        .expect("chmods");
    let changed = [
        ".",
        "moved",
        "moved/hard",
        "many",
        "many/hard",
        "size-4097",
        "opaque",
        "opaque/new",
        ".hidden",
        ".hidden/inside",
        "size-65536",
        "size-1000003",
    ];
    history.changes(&changed, &[".wh.a b", "opaque/.wh..wh..opq", ".wh.empty"]);

    fs::remove_dir_all(root.join(".hidden")).expect("removes");
    symlink("moved", root.join(".hidden")).expect("links");
    fs::remove_file(root.join("sparse")).expect("removes");
    fs::remove_file(root.join("many/0007-nnnnnnn")).expect("removes");
    fs::write(root.join("a b"), b"back again").expect("writes");
    let changed = [".", ".hidden", "a b", "many"];
    history.changes(&changed, &[".wh.sparse", "many/.wh.0007-nnnnnnn"]);
    history
}

#[test]
fn eventful_layers_pass_fsck_and_give_the_same_image_however_they_are_compressed() {
    let history = eventful();

    let of_plain = history.build("plain", &history.layers);

    run("fsck.erofs", &[path(&of_plain.path)]);
    for (program, suffix) in [("gzip", "gz"), ("zstd", "zst")] {
        let packed: Vec<_> = history
            .layers
            .iter()
            .map(|layer| {
                run(program, &["-k", "-1", path(layer)]);
                PathBuf::from(format!("{}.{suffix}", path(layer)))
            })
            .collect();
        assert_eq!(history.build(program, &packed).path, of_plain.path, "{program}");
    }
}

#[test]
fn one_layer_gives_the_image_that_its_tar_gives() {
    let mut history = History::new();
    plant(&history.root);
    history.whole();

    let of_layer = history.build("one", &history.layers);

    let images = history.path("images");
    let of_tar = bandsox_image::base::prepare(&history.layers[0], &images, &Limits::default());
    assert_eq!(of_layer.path, of_tar.expect("prepares").path);
}

/// Kind, mode, owner, size, target and content of everything below `root`, by path.
fn described(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("lists") {
            let path = entry.expect("lists").path();
            let stat = fs::symlink_metadata(&path).expect("stats");
            let mut text = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
            if stat.is_dir() {
                pending.push(path.clone());
            } else if stat.is_symlink() {
                text = format!("{text} {:?}", fs::read_link(&path).expect("reads"));
            } else if stat.is_file() {
                let digest = run("sha256sum", &[self::path(&path)]).stdout;
                let digest = String::from_utf8_lossy(&digest).into_owned();
                let digest = digest.trim_start_matches('\\').get(..64).map(str::to_owned);
                text = format!("{text} {} {}", stat.len(), digest.expect("a digest"));
            }
            found.insert(path.strip_prefix(root).expect("is below").to_owned(), text);
        }
    }
    found
}

/// A history without what `umoci` takes minutes for or cannot do without privileges.
fn modest() -> History {
    let mut history = History::new();
    let root = history.root.clone();
    let write = |name: &str, content: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("creates");
        fs::write(path, content).expect("writes");
    };
    write("usr/bin/sh", &vec![b's'; 9000]);
    write("usr/lib/a.so", &vec![b'a'; 20_000]);
    write("usr/share/doc/old", b"old");
    write("usr/share/doc/deep/er/old", b"old");
    write("etc/motd", b"hello");
    write("var/cache/one", b"1");
    symlink("usr/bin", root.join("bin")).expect("links");
    fs::hard_link(root.join("usr/bin/sh"), root.join("usr/bin/bash")).expect("links");
    history.whole();

    write("usr/share/doc/new", b"new");
    write("usr/lib/b.so", &vec![b'b'; 20_000]);
    fs::remove_dir_all(root.join("var/cache")).expect("removes");
    write("var/cache", b"a file now");
    history.changes(
        &["usr/share/doc", "usr/share/doc/new", "usr/lib/b.so", "var/cache"],
        &["usr/share/doc/.wh..wh..opq", "usr/lib/.wh.a.so", "etc/.wh.motd", "bin/.wh.bash"],
    );
    history
}

#[test]
fn umoci_unpacks_the_same_files() {
    let history = modest();
    let base = history.build("modest", &history.layers);
    let ours = history.path("ours");
    run("fsck.erofs", &[&format!("--extract={}", path(&ours)), path(&base.path)]);

    let layout = history.path("layout");
    let image = format!("{}:tag", path(&layout));
    run("umoci", &["init", "--layout", path(&layout)]);
    run("umoci", &["new", "--image", &image]);
    for layer in &history.layers {
        run("umoci", &["raw", "add-layer", "--image", &image, path(layer)]);
    }
    let theirs = history.path("theirs");
    let mut arguments = vec!["raw", "unpack", "--image", &image];
    if !rustix::process::geteuid().is_root() {
        arguments.push("--rootless");
    }
    arguments.push(path(&theirs));
    run("umoci", &arguments);

    let (ours, theirs) = (described(&ours), described(&theirs));
    for (name, theirs) in &theirs {
        assert_eq!(ours.get(name), Some(theirs), "{}", name.display());
    }
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(ours.keys().filter(|name| name.ends_with("old")).count(), 0);
}
