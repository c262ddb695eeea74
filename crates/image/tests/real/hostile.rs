//! Archives and directories that nobody should have to build from.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bandsox_image::base::{Base, Layer, Limits, from_layers, prepare};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::base::chain;

/// Builds a tar by hand, with names and sizes that no builder would write.
struct Forged(Vec<u8>);

impl Forged {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn member(
        mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        claimed: u64,
        data: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(claimed);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.member(EntryType::Regular, name, "", data.len() as u64, data)
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.member(kind, name, target, 0, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A directory with an archive beside the images, and nothing else that may change.
struct Scene {
    dir: TempDir,
    images: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let images = dir.path().join("images");
        fs::create_dir(&images).expect("creates");
        Self { dir, images }
    }

    fn prepare(&self, archive: &[u8], limits: &Limits) -> Result<Base, String> {
        let path = self.dir.path().join("hostile.tar");
        fs::write(&path, archive).expect("writes");
        prepare(&path, &self.images, limits)
            .map_err(|error| chain(&error).replace(path.to_str().expect("text"), "hostile.tar"))
    }

    fn refusal(&self, archive: &[u8], limits: &Limits) -> String {
        let refused = self.prepare(archive, limits).expect_err("hostile");
        let left: Vec<_> = fs::read_dir(&self.images).expect("lists").collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(
            fs::read_dir(self.dir.path()).expect("lists").count(),
            2,
            "nothing outside the images"
        );
        refused
    }
}

/// What `fsck.erofs` unpacks of an image.
fn unpacked(base: &Base, to: &Path) -> PathBuf {
    let out = to.join("out");
    let status = Command::new("fsck.erofs")
        .arg(format!("--extract={}", out.display()))
        .arg(&base.path)
        .status();
    assert!(status.expect("fsck.erofs runs").success());
    out
}

#[test]
fn archives_that_climb_lie_or_end_early_are_refused_and_leave_nothing() {
    let scene = Scene::new();
    let refusal = |archive: Forged| scene.refusal(&archive.end(), &Limits::default());
    let prefix = "archive hostile.tar cannot be used: ";

    assert_eq!(
        refusal(Forged::new().file("a/../../../etc/passwd", b"x")),
        format!(
            "{prefix}member a/../../../etc/passwd: path \"a/../../../etc/passwd\" contains `..`"
        )
    );
    assert_eq!(
        refusal(Forged::new().link(EntryType::Link, "l", "../outside")),
        format!("{prefix}member l: path \"../outside\" contains `..`")
    );
    assert_eq!(
        refusal(Forged::new().link(EntryType::Link, "l", "/etc/passwd")),
        format!("{prefix}member l: hard link \"l\" names \"/etc/passwd\", which is not there")
    );
    assert_eq!(
        refusal(Forged::new().file("f", b"x").file("f/g", b"x")),
        format!("{prefix}member f/g: path \"f/g\" leads through \"f\", which is not a directory")
    );
    assert_eq!(
        refusal(Forged::new().member(EntryType::Regular, "f", "", 100_000, b"short")),
        format!(
            "{prefix}member f: \"f\" cannot be stored: could not read the data: the archive is cut short"
        )
    );
    assert_eq!(
        refusal(Forged::new().member(EntryType::Regular, "f", "", u64::MAX, b"")),
        format!(
            "{prefix}member at byte 0: data of 18446744073709551615 bytes is over the limit of 274877906432 bytes"
        )
    );
    assert_eq!(
        scene.refusal(&[b'x'; 2000], &Limits::default()).split(": ").next(),
        Some("image hostile.tar cannot be used")
    );
}

#[test]
fn a_symlink_that_is_written_through_leads_nowhere_but_into_the_image() {
    let scene = Scene::new();
    let outside = scene.dir.path().join("outside");
    fs::create_dir(&outside).expect("creates");
    let target = outside.to_str().expect("text");
    let archive = Forged::new()
        .link(EntryType::Symlink, "evil", target)
        .file("evil/file", b"inside")
        .file("/absolute", b"at the root")
        .file("twice", b"first")
        .file("twice", b"second")
        .end();

    let base = scene.prepare(&archive, &Limits::default()).expect("stays inside");

    assert_eq!(fs::read_dir(&outside).expect("lists").count(), 0);
    let out = unpacked(&base, scene.dir.path());
    let inside = out.join(target.trim_start_matches('/')).join("file");
    assert_eq!(fs::read(inside).expect("reads"), b"inside");
    assert_eq!(fs::read(out.join("absolute")).expect("reads"), b"at the root");
    assert_eq!(fs::read(out.join("twice")).expect("reads"), b"second");
}

#[test]
fn bombs_are_stopped_by_their_limits_and_zeros_cost_nothing() {
    let scene = Scene::new();
    let zeros = Forged::new().file("zeros", &vec![0; 64 << 20]).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeros).expect("compresses");
    let bomb = gzip.finish().expect("compresses");
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };

    let refused = scene.refusal(&bomb, &limits(|limits| limits.source_bytes = 1 << 20));
    assert!(
        refused.ends_with("data of 67108864 bytes is over the limit of 1048064 bytes"),
        "{refused}"
    );
    let refused = scene.refusal(&bomb, &limits(|limits| limits.file_bytes = 1 << 20));
    assert!(
        refused.ends_with("a file of 67108864 bytes is over the limit of 1048576 bytes"),
        "{refused}"
    );

    let noise: Vec<u8> =
        (0..1u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let noise = Forged::new().file("noise", &noise).end();
    let refused = scene.refusal(&noise, &limits(|limits| limits.image_bytes = 1 << 20));
    assert!(refused.ends_with("the image is over the limit of 1048576 bytes"), "{refused}");

    let many = (0..100)
        .fold(Forged::new(), |archive, number| archive.file(&format!("{number}"), b"x"))
        .end();
    let refused = scene.refusal(&many, &limits(|limits| limits.entries = 50));
    assert!(refused.ends_with("more than 50 files and directories"), "{refused}");
    let refused = scene.refusal(&many, &limits(|limits| limits.metadata_bytes = 50));
    assert!(refused.ends_with("names and attributes take more than 50 bytes"), "{refused}");

    let base = scene.prepare(&bomb, &Limits::default()).expect("within the limits");
    assert!(fs::metadata(&base.path).expect("stats").len() < 1 << 20);
}

#[test]
fn what_is_no_image_says_what_would_be_one() {
    let scene = Scene::new();
    let said = |image: &Path| {
        let refused = prepare(image, &scene.images, &Limits::default()).expect_err("no image");
        chain(&refused).replace(scene.dir.path().to_str().expect("text"), "")
    };
    let path = |name: &str| scene.dir.path().join(name);

    assert_eq!(
        said(&path("missing")),
        "could not open image /missing: No such file or directory (os error 2)"
    );
    fs::write(path("text"), b"hello").expect("writes");
    let hint = "not an image: want an ext4 or EROFS file system, a tar, or a directory";
    assert_eq!(said(&path("text")), format!("image /text cannot be used: {hint}"));
    let status = Command::new("mkfifo").arg(path("fifo")).status().expect("mkfifo runs");
    assert!(status.success());
    assert_eq!(said(&path("fifo")), "image /fifo is neither a file nor a directory");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[b'x'; 5000]).expect("compresses");
    fs::write(path("x.gz"), gzip.finish().expect("compresses")).expect("writes");
    assert!(
        said(&path("x.gz")).starts_with("archive /x.gz cannot be used: it is not a tar archive")
    );
}

#[test]
fn an_unreadable_file_in_a_directory_is_named() {
    if rustix::process::geteuid().is_root() {
        return as_nobody("hostile::an_unreadable_file_in_a_directory_is_named");
    }
    let scene = Scene::new();
    let root = scene.dir.path().join("root");
    fs::create_dir_all(root.join("sub")).expect("creates");
    fs::write(root.join("sub/secret"), b"x").expect("writes");
    fs::set_permissions(root.join("sub/secret"), fs::Permissions::from_mode(0o000))
        .expect("chmods");

    let refused = prepare(&root, &scene.images, &Limits::default()).expect_err("unreadable");

    assert!(
        chain(&refused).contains("could not read sub/secret: Permission denied"),
        "{}",
        chain(&refused)
    );
    assert_eq!(fs::read_dir(&scene.images).expect("lists").count(), 0);
}

/// Runs a test of this program again under a user whom permissions stop.
fn as_nobody(test: &str) {
    let dir = TempDir::new().expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmods");
    let program = dir.path().join("test");
    fs::copy("/proc/self/exe", &program).expect("copies");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", test, "--nocapture"])
        .output()
        .expect("setpriv runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// One member: which kind, in which directory, under which name, and how long or pointing where.
type Step = (u8, u8, u8, u16);

/// An archive of these members; hard links name what came before.
fn forge(steps: &[Step]) -> Vec<u8> {
    let mut files: Vec<String> = Vec::new();
    let mut archive = Forged::new();
    for (kind, directory, name, number) in steps {
        let directory = ["", "d", "d/e", "long-directory-name/d/e"][usize::from(directory % 4)];
        let path = format!("{directory}/{}", "n".repeat(usize::from(name % 60) + 1));
        archive = match (kind % 6, files.is_empty()) {
            (0 | 1, _) | (5, true) => archive.file(&path, &vec![*name; usize::from(*number)]),
            (2, _) => archive.link(EntryType::Directory, directory, ""),
            (3, _) => archive.link(EntryType::Symlink, &path, "d/target"),
            (4, _) => archive.link(EntryType::Fifo, &path, ""),
            (_, _) => {
                archive.link(EntryType::Link, &path, &files[usize::from(*number) % files.len()])
            }
        };
        if kind % 6 != 2 {
            files.push(path);
        }
    }
    archive.end()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..proptest::prelude::ProptestConfig::default() })]

    #[test]
    fn whatever_members_come_in_whatever_order_the_image_is_whole(
        steps in proptest::collection::vec(proptest::arbitrary::any::<Step>(), 1..60)
    ) {
        let scene = Scene::new();

        let base = scene.prepare(&forge(&steps), &Limits::default()).expect("nothing hostile in it");

        let check = Command::new("fsck.erofs").arg(&base.path).output().expect("fsck.erofs runs");
        proptest::prop_assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    }
}

/// Builds an image of these layers, the lowest first, each compressed by gzip.
fn layered(scene: &Scene, layers: &[Vec<u8>], limits: &Limits) -> Result<Base, String> {
    let layers = layers.iter().map(|archive| {
        let mut gzip = flate2::write::GzEncoder::new(
            tempfile::tempfile().expect("a temporary file"),
            flate2::Compression::fast(),
        );
        gzip.write_all(archive).expect("compresses");
        let blob = gzip.finish().expect("compresses");
        Ok::<_, std::convert::Infallible>(Layer { blob, label: "bad".to_owned(), diff_id: None })
    });
    from_layers(layers, "hostile", &scene.images, limits, &mut |_| {}).map_err(|error| {
        let left: Vec<_> = fs::read_dir(&scene.images).expect("lists").collect();
        assert!(left.is_empty(), "{left:?}");
        chain(&error)
    })
}

#[test]
fn layers_that_climb_or_lie_are_refused_and_leave_nothing() {
    let scene = Scene::new();
    let lower = || Forged::new().file("etc/passwd", b"root").end();
    let refusal = |upper: Forged| {
        let refused = layered(&scene, &[lower(), upper.end()], &Limits::default());
        let refused = refused.expect_err("hostile");
        refused.strip_prefix("layer bad cannot be used: ").expect("names the layer").to_owned()
    };

    assert_eq!(
        refusal(Forged::new().file("../../etc/passwd", b"x")),
        "member ../../etc/passwd: path \"../../etc/passwd\" contains `..`"
    );
    assert_eq!(
        refusal(Forged::new().file("../../etc/.wh.passwd", b"")),
        "member ../../etc/passwd: path \"../../etc/passwd\" contains `..`"
    );
    assert_eq!(
        refusal(Forged::new().file("etc/.wh...", b"")),
        "member \"etc/.wh...\" removes nothing that could have a name"
    );
    assert_eq!(
        refusal(Forged::new().link(EntryType::Link, "l", "/etc/shadow")),
        "member l: hard link \"l\" names \"/etc/shadow\", which is not there"
    );
    assert_eq!(
        refusal(Forged::new().link(EntryType::Symlink, ".", "elsewhere")),
        "member .: path \".\" is the root and must be a directory"
    );
    assert_eq!(
        refusal(Forged::new().member(EntryType::Regular, "f", "", 100_000, b"short")),
        "member f: \"f\" cannot be stored: could not read the data: the archive is cut short"
    );
}

#[test]
fn a_layer_that_writes_and_removes_through_links_reaches_nothing_but_the_image() {
    let scene = Scene::new();
    let outside = scene.dir.path().join("outside");
    fs::create_dir(&outside).expect("creates");
    fs::write(outside.join("kept"), b"kept").expect("writes");
    let target = outside.to_str().expect("text");
    let climbing = format!("../../../../../../..{target}");
    let lower = Forged::new()
        .link(EntryType::Symlink, "evil", target)
        .link(EntryType::Symlink, "climbing", &climbing)
        .file("evil/first", b"first")
        .end();
    let upper = Forged::new()
        .file("evil/.wh.kept", b"")
        .file("climbing/.wh..wh..opq", b"")
        .file("evil/second", b"second")
        .file("climbing/third", b"third")
        .file("/absolute", b"at the root")
        .end();

    let base = layered(&scene, &[lower, upper], &Limits::default()).expect("stays inside");

    assert_eq!(fs::read(outside.join("kept")).expect("reads"), b"kept");
    assert_eq!(fs::read_dir(&outside).expect("lists").count(), 1);
    let out = unpacked(&base, scene.dir.path());
    let inside = out.join(target.trim_start_matches('/'));
    let mut names: Vec<_> = fs::read_dir(inside)
        .expect("lists")
        .map(|entry| entry.expect("lists").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["second", "third"]);
    assert_eq!(fs::read(out.join("absolute")).expect("reads"), b"at the root");
}

/// A gzip stream of a tar with one file of `gibibytes` GiB of zeros, made without holding it.
fn zeros_gzipped(gibibytes: u64) -> fs::File {
    let blob = tempfile::tempfile().expect("a temporary file");
    let mut gzip = flate2::write::GzEncoder::new(blob, flate2::Compression::new(4));
    let mut header = Header::new_gnu();
    header.set_path("zeros").expect("fits");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(gibibytes << 30);
    header.set_cksum();
    gzip.write_all(header.as_bytes()).expect("compresses");
    let zeros = vec![0; 1 << 20];
    for _ in 0..gibibytes << 10 {
        gzip.write_all(&zeros).expect("compresses");
    }
    gzip.write_all(&[0; 1024]).expect("compresses");
    gzip.finish().expect("compresses")
}

#[test]
fn gibibytes_of_zeros_in_a_small_layer_stay_small_or_stop_at_the_limit() {
    let scene = Scene::new();
    let layer = || {
        let blob = zeros_gzipped(2);
        assert!(blob.metadata().expect("stats").len() < 16 << 20);
        [Ok::<_, std::convert::Infallible>(Layer { blob, label: "bomb".into(), diff_id: None })]
    };
    let build = |limits: &Limits| {
        from_layers(layer().into_iter(), "bomb", &scene.images, limits, &mut |_| {})
    };

    let bounded = Limits { source_bytes: 1 << 30, ..Limits::default() };
    let refused = chain(&build(&bounded).expect_err("over the limit"));
    assert!(refused.contains("data of 2147483648 bytes is over the limit"), "{refused}");
    assert_eq!(fs::read_dir(&scene.images).expect("lists").count(), 0);

    let base = build(&Limits::default()).expect("zeros are holes");
    assert!(fs::metadata(&base.path).expect("stats").len() < 4 << 20);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 48, ..proptest::prelude::ProptestConfig::default() })]

    #[test]
    fn whatever_layers_add_and_remove_the_image_is_whole(
        lower in proptest::collection::vec(proptest::arbitrary::any::<Step>(), 1..40),
        upper in proptest::collection::vec(proptest::arbitrary::any::<Step>(), 1..20),
        markers in proptest::collection::vec((0u8..4, 0u8..60), 0..10)
    ) {
        let scene = Scene::new();
        let mut changes = Forged::new();
        for (directory, name) in markers {
            let directory = ["", "d/", "d/e/", "long-directory-name/d/"][usize::from(directory)];
            let name = if name == 0 { ".wh.opq".to_owned() } else { "n".repeat(name.into()) };
            changes = changes.file(&format!("{directory}.wh.{name}"), b"");
        }
        let Forged(mut top) = changes;
        top.extend(forge(&upper));

        let base = layered(&scene, &[forge(&lower), top], &Limits::default());
        let base = base.expect("nothing hostile in it");

        let check = Command::new("fsck.erofs").arg(&base.path).output().expect("fsck.erofs runs");
        proptest::prop_assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let out = unpacked(&base, scene.dir.path());
        let marker = Command::new("find").arg(out).args(["-name", ".wh.*"]).output();
        proptest::prop_assert_eq!(marker.expect("find runs").stdout, b"");
    }
}
