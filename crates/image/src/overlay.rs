//! The writable disk of one VM: a sparse ext4 file, copied from a template that is made once per size.
//!
//! `mke2fs` takes hundreds of milliseconds for a large disk; the copy of its few hundred kilobytes takes one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{SeekFrom, seek};

use crate::atomic;

/// Smallest overlay: below it ext4 has no room for a journal.
pub const MIN_MIB: u64 = 16;
/// Largest overlay, 16 TiB: the most that an ext4 file system without the `64bit` feature addresses.
pub const MAX_MIB: u64 = (16 << 20) - 1;

/// What [`create`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Size that the guest sees, in bytes.
    pub size_bytes: u64,
    /// What the file takes on the host's disk so far, in bytes (`st_blocks` × 512).
    pub allocated_bytes: u64,
}

/// Why an overlay could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The size is outside what this crate makes.
    #[error("overlay of {size_mib} MiB; want {MIN_MIB}..={MAX_MIB} MiB")]
    Size {
        /// What was asked for, in MiB.
        size_mib: u64,
    },
    /// `mke2fs` is not on this host.
    #[error("mke2fs was not found; install the package e2fsprogs")]
    NoMke2fs,
    /// `mke2fs` ran and failed.
    #[error("mke2fs failed on {path} ({status}): {stderr}")]
    Mke2fs {
        /// The template that it was to fill.
        path: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last words, at most 2 KiB.
        stderr: String,
    },
    /// Something is already where the overlay should go.
    #[error("{path} exists already")]
    Exists {
        /// The overlay's path.
        path: PathBuf,
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

/// Creates `dest` as an empty, sparse ext4 file system of `size_mib` MiB, mode 0600.
///
/// The first call for a size makes `template_dir/template-<MiB>.ext4`; the others copy it, by reflink where the file
/// system can and data extent by data extent otherwise. `template_dir` must exist.
///
/// `dest` is synced by the caller's own commit point, not here: an overlay that nothing refers to yet may be lost.
///
/// # Errors
///
/// [`CreateError::Exists`] if `dest` exists (it is left alone), [`CreateError::NoMke2fs`] if there is no template for this
/// size and no `mke2fs`; on any error `dest` does not exist afterwards.
pub fn create(dest: &Path, size_mib: u64, template_dir: &Path) -> Result<Created, CreateError> {
    let template = template(size_mib, template_dir)?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dest);
    let copy = opened.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            CreateError::Exists { path: dest.to_owned() }
        } else {
            io_error("create", dest)(error)
        }
    })?;
    let filled = copy_sparse(&template, &copy).and_then(|()| copy.metadata());
    match filled {
        Ok(metadata) => Ok(Created {
            size_bytes: metadata.len(),
            allocated_bytes: metadata.blocks().saturating_mul(512),
        }),
        Err(error) => {
            // The copy is useless; that it cannot be removed either would only hide the first error.
            drop(fs::remove_file(dest));
            Err(io_error("write", dest)(error))
        }
    }
}

/// Opens the template for `size_mib`, making it first if it is missing.
fn template(size_mib: u64, dir: &Path) -> Result<File, CreateError> {
    if !(MIN_MIB..=MAX_MIB).contains(&size_mib) {
        return Err(CreateError::Size { size_mib });
    }
    let path = dir.join(format!("template-{size_mib}.ext4"));
    match File::open(&path) {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("open", &path)(error)),
    }
    let temp = atomic::temp_in(dir).map_err(io_error("create a template in", dir))?;
    temp.as_file().set_len(size_mib << 20).map_err(io_error("size", temp.path()))?;
    run_mke2fs(temp.path(), size_mib)?;
    // Two processes may both have made one; both are whole, and the last name wins.
    atomic::publish(temp, 0o600, &path).map_err(io_error("publish", &path))?;
    File::open(&path).map_err(io_error("open", &path))
}

fn run_mke2fs(path: &Path, size_mib: u64) -> Result<(), CreateError> {
    // A fixed locale and config: the features are named below, not taken from the host's mke2fs.conf.
    let run = |program: &str| {
        Command::new(program)
            .env("LC_ALL", "C")
            .env("MKE2FS_CONFIG", "/dev/null")
            .args(mke2fs_arguments(size_mib))
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
    };
    let mut outcome = run("mke2fs");
    if matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::NotFound) {
        // An ordinary user's PATH often lacks the sbin directories.
        outcome = run("/usr/sbin/mke2fs");
    }
    let output = outcome.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            CreateError::NoMke2fs
        } else {
            io_error("run mke2fs on", path)(error)
        }
    })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = output.stderr.get(..output.stderr.len().min(2048)).unwrap_or_default();
    let stderr = String::from_utf8_lossy(stderr).trim().to_owned();
    Err(CreateError::Mke2fs { path: path.to_owned(), status: output.status, stderr })
}

fn mke2fs_arguments(size_mib: u64) -> Vec<String> {
    let journal_mib = if size_mib < 256 { 4 } else { 16 };
    let inode_ratio = if size_mib < 1024 { 8192 } else { 16384 };
    let extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,hash_seed=d0e1c5f2-6f3a-4b51-9a0e-6b6f78534258";
    let features = "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,\
                    dir_nlink,extra_isize,metadata_csum";
    [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-I",
        "256",
        "-m",
        "0",
        "-L",
        "bandsox-overlay",
        "-O",
        features,
        "-E",
        extended,
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([
        "-J".to_owned(),
        format!("size={journal_mib}"),
        "-i".to_owned(),
        inode_ratio.to_string(),
    ])
    .collect()
}

/// Makes `copy` equal to `source`, holes included.
fn copy_sparse(source: &File, copy: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(copy, source).is_ok() {
        return Ok(());
    }
    let size = source.metadata()?.len();
    copy.set_len(size)?;
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0u64;
    while at < size {
        let start = match seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(source, SeekFrom::Hole(start))?;
        copy_range(source, copy, start, end, &mut buffer)?;
        at = end;
    }
    Ok(())
}

/// Copies bytes `start..end`, leaving out whole 4 KiB blocks of zeros.
fn copy_range(
    source: &File,
    copy: &File,
    start: u64,
    end: u64,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let want = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..want).unwrap_or_default();
        source.read_exact_at(chunk, at)?;
        for block in chunk.chunks(4096) {
            if block.iter().any(|byte| *byte != 0) {
                copy.write_all_at(block, at)?;
            }
            at = at.saturating_add(block.len() as u64);
        }
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
