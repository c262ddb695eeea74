//! Kernel and modules out of a Debian package, without installing it.
//!
//! A `.deb` is an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`. Source: `deb(5)`, `ar(5)`.

use std::fs::{self, File};
use std::io::{self, Read, Take};
use std::path::{Path, PathBuf};

use super::modules::module_name;
use crate::archive::{Archive, Kind, Member, ReadError, decoder};

/// Why a package gave no kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebError {
    /// Not an `ar` archive, or a damaged one.
    #[error("not a Debian package: {what}")]
    NotADeb {
        /// What is wrong.
        what: &'static str,
    },
    /// The package's files cannot be read.
    #[error("could not read the package's data")]
    Data(#[from] ReadError),
    /// No `/boot/vmlinuz-*`.
    #[error(
        "the package holds no /boot/vmlinuz-*; a package without a version in its name (linux-image-amd64) is empty, take \
         the one that it depends on"
    )]
    NoKernel,
    /// A kernel, but no modules beside it.
    #[error(
        "the package holds no /lib/modules/{version}; give the kernel and its modules by path instead"
    )]
    NoModules {
        /// The kernel's version.
        version: String,
    },
    /// Two kernels, of which one would have to be guessed.
    #[error("the package holds more than one kernel: {first} and {second}")]
    TwoKernels {
        /// Version of one.
        first: String,
        /// Version of the other.
        second: String,
    },
    /// The operating system refused.
    #[error("could not {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// What [`unpack`] found: the kernel in memory, the modules in the directory that it was given.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) kernel: Vec<u8>,
}

/// Unpacks the kernel and the modules of the package at `file`.
///
/// Modules and the kernel's configuration go into `scratch`, flat, under names that are checked to be plain: nothing in the package can name another
/// place. Links and everything else in it are passed over.
pub(super) fn unpack(file: &Path, scratch: &Path) -> Result<Unpacked, DebError> {
    let io_error = |action, path: &Path| {
        let path = path.to_owned();
        move |source| DebError::Io { action, path, source }
    };
    let package = File::open(file).map_err(io_error("open", file))?;
    let data = data_member(package)?;
    let data = decoder(data).map_err(io_error("decompress", file))?;
    let mut archive = Archive::new(data, MAX_UNPACKED);
    let mut kernel: Option<(String, Vec<u8>)> = None;
    let mut modules = 0usize;
    while let Some(member) = archive.next_member()? {
        match Wanted::of(&member) {
            Some(Wanted::Kernel { version }) => {
                if let Some((first, _)) = kernel {
                    return Err(DebError::TwoKernels { first, second: version });
                }
                let bytes =
                    read_kernel(&mut archive).map_err(io_error("read the kernel in", file))?;
                kernel = Some((version, bytes));
            }
            Some(Wanted::Module { file_name }) => {
                copy_out(&mut archive, &scratch.join(file_name))?;
                modules = modules.saturating_add(1);
            }
            Some(Wanted::Config { file_name }) => copy_out(&mut archive, &scratch.join(file_name))?,
            None => {}
        }
    }
    match kernel {
        None => Err(DebError::NoKernel),
        Some((version, _)) if modules == 0 => Err(DebError::NoModules { version }),
        Some((_, kernel)) => Ok(Unpacked { kernel }),
    }
}

/// What of a package is used.
enum Wanted {
    Kernel { version: String },
    Module { file_name: String },
    Config { file_name: String },
}

impl Wanted {
    fn of(member: &Member) -> Option<Self> {
        let Kind::File { .. } = &member.kind else {
            return None;
        };
        let path = str::from_utf8(&member.path).ok()?;
        let path = path.trim_start_matches("./").trim_start_matches('/');
        let path = path.strip_prefix("usr/").unwrap_or(path);
        if let Some(version) = path.strip_prefix("boot/vmlinuz-") {
            return (!version.contains('/')).then(|| Self::Kernel { version: version.to_owned() });
        }
        if let Some(name) = path.strip_prefix("boot/").filter(|name| name.starts_with("config-")) {
            return (!name.contains('/')).then(|| Self::Config { file_name: name.to_owned() });
        }
        let inside = path.strip_prefix("lib/modules/")?;
        let (_, file_name) = inside.rsplit_once('/')?;
        let is_wanted = file_name == "modules.builtin" || module_name(file_name).is_some();
        (is_wanted && !is_far_fetched(inside))
            .then(|| Self::Module { file_name: file_name.to_owned() })
    }
}

/// Whether a module (`<version>/kernel/…`) is of a kind that nothing in a guest of ours can depend on. Most are.
fn is_far_fetched(inside: &str) -> bool {
    let path = inside.split_once("/kernel/").map_or("", |(_, path)| path);
    FAR_FETCHED.iter().any(|prefix| path.starts_with(prefix)) && !path.starts_with("net/vmw_vsock/")
}

fn copy_out(archive: &mut impl Read, path: &Path) -> Result<(), DebError> {
    let copied = File::create(path).and_then(|mut copy| io::copy(archive, &mut copy));
    copied.map(|_| ()).map_err(|source| DebError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn read_kernel(archive: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    archive.take(MAX_KERNEL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The `data.tar*` member of an `ar` archive.
fn data_member(mut package: File) -> Result<Take<File>, DebError> {
    let not = |what| move |_: io::Error| DebError::NotADeb { what };
    let mut magic = [0; 8];
    package.read_exact(&mut magic).map_err(not("it is cut short"))?;
    if magic != *b"!<arch>\n" {
        return Err(DebError::NotADeb { what: "it does not begin with !<arch>" });
    }
    // Three members in every real package; a few more are allowed to come first.
    for _ in 0..16 {
        let mut header = [0; 60];
        package.read_exact(&mut header).map_err(not("it has no data.tar"))?;
        let (name, size) = member_header(&header)
            .ok_or(DebError::NotADeb { what: "a member's header is damaged" })?;
        if name.starts_with("data.tar") {
            return Ok(package.take(size));
        }
        // Members begin at even offsets.
        let skip = size.saturating_add(size % 2);
        let skipped = io::copy(&mut package.by_ref().take(skip), &mut io::sink())
            .map_err(not("it cannot be read"))?;
        if skipped != skip {
            return Err(DebError::NotADeb { what: "it is cut short" });
        }
    }
    Err(DebError::NotADeb { what: "it has no data.tar" })
}

/// Name (without the `/` that GNU `ar` adds) and length of a member.
fn member_header(header: &[u8; 60]) -> Option<(&str, u64)> {
    if header.get(58..)? != b"`\n" {
        return None;
    }
    let name = str::from_utf8(header.get(..16)?).ok()?.trim_end().trim_end_matches('/');
    let size = str::from_utf8(header.get(48..58)?).ok()?.trim_end().parse().ok()?;
    Some((name, size))
}

/// Creates a directory that [`unpack`] can fill, beside what will be installed.
pub(super) fn scratch_in(dir: &Path) -> Result<tempfile::TempDir, DebError> {
    let make = || {
        fs::create_dir_all(dir)?;
        tempfile::Builder::new().prefix(super::install::STAGING_PREFIX).tempdir_in(dir)
    };
    make().map_err(|source| DebError::Io {
        action: "create a directory in",
        path: dir.to_owned(),
        source,
    })
}

/// Directories of a kernel's modules that are not even unpacked, the largest ones.
const FAR_FETCHED: [&str; 22] = [
    "drivers/ata/",
    "drivers/comedi/",
    "drivers/gpu/",
    "drivers/hid/",
    "drivers/hwmon/",
    "drivers/iio/",
    "drivers/infiniband/",
    "drivers/input/",
    "drivers/md/",
    "drivers/media/",
    "drivers/net/",
    "drivers/scsi/",
    "drivers/staging/",
    "drivers/target/",
    "drivers/usb/",
    "fs/btrfs/",
    "fs/ceph/",
    "fs/nfs/",
    "fs/smb/",
    "fs/xfs/",
    "net/",
    "sound/",
];
/// A generic kernel with all its modules unpacks to half a GiB.
const MAX_UNPACKED: u64 = 4 << 30;
const MAX_KERNEL: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("package.deb");
        fs::write(&path, bytes).expect("writes");
        unpack(&path, dir.path()).expect_err("hostile").to_string()
    }

    fn deb(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, data) in members {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len())
                    .bytes(),
            );
            bytes.extend_from_slice(data);
            if data.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().expect("GNU").name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, *data).expect("appends");
        }
        builder.into_inner().expect("finishes")
    }

    #[test]
    fn what_is_no_package_is_refused_by_what_is_wrong_with_it() {
        assert_eq!(refusal(b""), "not a Debian package: it is cut short");
        assert_eq!(refusal(&[0; 100]), "not a Debian package: it does not begin with !<arch>");
        assert_eq!(
            refusal(&deb(&[("debian-binary", b"2.0\n")])),
            "not a Debian package: it has no data.tar"
        );
        let mut lying = deb(&[("debian-binary", b"2.0\n")]);
        lying[8 + 48..8 + 58].copy_from_slice(b"9999999999");
        assert_eq!(refusal(&lying), "not a Debian package: it is cut short");
        lying[8 + 48..8 + 58].copy_from_slice(b"-1        ");
        assert_eq!(refusal(&lying), "not a Debian package: a member's header is damaged");
    }

    #[test]
    fn a_package_without_a_kernel_or_without_modules_says_which() {
        let empty =
            deb(&[("debian-binary", b"2.0\n"), ("data.tar", &tar(&[("./usr/share/doc/x", b"")]))]);
        assert!(
            refusal(&empty).starts_with("the package holds no /boot/vmlinuz-*"),
            "{}",
            refusal(&empty)
        );

        let bare = deb(&[("data.tar/", &tar(&[("./boot/vmlinuz-6.1", b"kernel")]))]);
        assert!(
            refusal(&bare).starts_with("the package holds no /lib/modules/6.1"),
            "{}",
            refusal(&bare)
        );

        let two = deb(&[("data.tar", &tar(&[("boot/vmlinuz-1", b"a"), ("boot/vmlinuz-2", b"b")]))]);
        assert_eq!(refusal(&two), "the package holds more than one kernel: 1 and 2");
    }

    #[test]
    fn names_that_climb_out_write_nothing_outside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let scratch = dir.path().join("a/b");
        fs::create_dir_all(&scratch).expect("creates");
        let path = dir.path().join("package.deb");
        let files: &[(&str, &[u8])] = &[
            ("./boot/vmlinuz-6.1", b"kernel"),
            ("./lib/modules/6.1/../../../../../escaped.ko", b"x"),
            ("./lib/modules/6.1/..", b"x"),
            ("/lib/modules/6.1/kernel/fine.ko", b"module"),
        ];
        fs::write(&path, deb(&[("data.tar", &tar(files))])).expect("writes");

        let unpacked = unpack(&path, &scratch).expect("unpacks");

        assert_eq!(unpacked.kernel, b"kernel");
        let mut names: Vec<_> = fs::read_dir(&scratch)
            .expect("lists")
            .map(|entry| entry.expect("lists").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["escaped.ko", "fine.ko"]);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 2);
    }
}
