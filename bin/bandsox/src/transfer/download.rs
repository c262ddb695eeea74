//! Out of a VM.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use bandsox_client::files::{
    EntryKind, GetError, Parents, ReceiveError, Target, get_stream, get_tree, stat,
};
use bandsox_client::local::{Destination, Landing};
use bandsox_client::v1::V1;
use bandsox_proto::ByteString;
use bandsox_proto::control::{Fetched, TransferEvent};
use bandsox_proto::v2::ErrorCode;
use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT};

use super::{Moved, Peer, as_text, name_of};
use crate::command::upload::{Protocol, Route};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::storage::{self, Vm};

/// Copies a file or a directory out of a VM, onto a disk or to standard output.
pub(crate) fn download(vm: Vm<'_>, remote: &OsStr, to: &Path, route: Route) -> Result<(), Failure> {
    let mut peer = Peer::connect(vm, route)?;
    let _watch = peer.monitor.watched_by(&peer.interrupt.cancel)?;
    peer.get(remote, to).map_err(|failure| {
        let what = format!("cannot download {} to {}", remote.to_string_lossy(), to.display());
        peer.interrupt.explain(failure.context(what))
    })
}

impl Peer<'_> {
    fn get(&mut self, remote: &OsStr, to: &Path) -> Result<(), Failure> {
        if to == Path::new("-") {
            let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            return self.get_into_stream(remote, stdout);
        }
        // Of `/` and the like only the target can say what it becomes.
        let name = name_of(remote).unwrap_or_default();
        match Destination::resolve(to, name)? {
            Destination::Stream { file, .. } => self.get_into_stream(remote, file),
            Destination::Entry { directory, name, shown } => {
                let landing = Landing::create(directory, &name, &shown)?;
                match self.protocol {
                    Protocol::V1 => self.get_by_v1(remote, landing),
                    Protocol::V2 => self.get_file_or_directory(remote, to, landing),
                }
            }
        }
    }

    fn get_file_or_directory(
        &mut self,
        remote: &OsStr,
        to: &Path,
        landing: Landing,
    ) -> Result<(), Failure> {
        let path = ByteString::from(remote);
        let mut progress = Progress::begin(self.ui, self.size_of(&path));
        let file = landing.file().as_fd();
        let fetched =
            self.monitor.get_file(path, file, self.transport, &mut |bytes| progress.reach(bytes));
        let fetched = match fetched {
            Err(error) if error.code() == Some(ErrorCode::IsADirectory.name()) => {
                drop(landing);
                return self.get_directory(remote, to, progress);
            }
            other => other.map_err(storage::refused)?,
        };
        progress.end(fetched.size);
        let (transport, bytes) = (fetched.transport, fetched.size);
        finish(&landing, &fetched)?;
        landing.land()?;
        Moved { what: "File downloaded", transport, path: remote, files: None, bytes }
            .tell(self.ui, Protocol::V2)
    }

    fn get_directory(
        &mut self,
        remote: &OsStr,
        to: &Path,
        mut progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let name = name_of(remote).map(|name| name.as_encoded_bytes());
        let target = Target::resolve(to, name, Parents::Require)?;
        // What does not fit need not be begun.
        let room = rustix::fs::statvfs(to.parent().filter(|p| *p != Path::new("")).unwrap_or(to))
            .map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        let (done, transport) = self.over_channel(|channel| {
            let path = ByteString::from(remote);
            let got = get_tree(channel, path, &target, room, &mut |bytes| progress.advance(bytes));
            got.map_err(no_room)
        })?;
        progress.end(done.bytes);
        let path = ByteString::from(remote);
        self.note(TransferEvent::Download, transport, &path, done.bytes);
        super::warn_of_skipped(self.ui, &done);
        Moved {
            what: "Directory downloaded",
            transport,
            path: remote,
            files: Some(done.files),
            bytes: done.bytes,
        }
        .tell(self.ui, Protocol::V2)
    }

    fn get_by_v1(&mut self, remote: &OsStr, landing: Landing) -> Result<(), Failure> {
        let text = as_text(remote)?;
        let mut progress = Progress::begin(self.ui, None);
        let (bytes, transport) = self.over_channel(|channel| {
            let mut v1 = V1::new(channel);
            Ok(v1.download(text, landing.file(), &mut |bytes| progress.reach(bytes))?)
        })?;
        progress.end(bytes);
        // Protocol v1 says nothing of modes: as a new file of the user's would have it.
        let umask = rustix::process::umask(Mode::empty());
        rustix::process::umask(umask);
        rustix::fs::fchmod(landing.file(), Mode::from_raw_mode(0o666 & !umask.as_raw_mode()))?;
        landing.land()?;
        self.note(TransferEvent::Download, transport, &ByteString::from(text), bytes);
        Moved { what: "File downloaded", transport, path: remote, files: None, bytes }
            .tell(self.ui, Protocol::V1)
    }

    fn get_into_stream(&mut self, remote: &OsStr, mut out: File) -> Result<(), Failure> {
        let protocol = self.protocol;
        let path = ByteString::from(remote);
        let mut progress = Progress::begin(self.ui, self.size_of(&path));
        let (bytes, transport) = self.over_channel(|channel| match protocol {
            Protocol::V1 => {
                let text = as_text(remote)?;
                Ok(V1::new(channel).download(text, &out, &mut |bytes| progress.reach(bytes))?)
            }
            Protocol::V2 => {
                let mut advance = |bytes| progress.advance(bytes);
                Ok(get_stream(channel, path.clone(), &mut out, &mut advance)?)
            }
        })?;
        progress.end(bytes);
        self.note(TransferEvent::Download, transport, &path, bytes);
        // Standard output holds the file; its description would spoil it, so no JSON here.
        self.ui.message(format!("File downloaded: {path} ({bytes} bytes)"));
        Ok(())
    }

    /// Length of a file in the guest in bytes, where somebody watches a bar that needs it.
    fn size_of(&mut self, path: &ByteString) -> Option<u64> {
        if !self.ui.wants_progress() {
            return None;
        }
        let found = self.over_channel(|channel| Ok(stat(channel, path.clone())?));
        found.ok().filter(|(found, _)| found.kind == EntryKind::File).map(|(found, _)| found.size)
    }
}

/// Gives a file that has come what it had in the guest: all but owner, set-user-id and
/// set-group-id, which would be the guest's say about this machine.
fn finish(landing: &Landing, fetched: &Fetched) -> Result<(), Failure> {
    let file = landing.file();
    let got = file.metadata()?.len();
    if got != fetched.size {
        return Err(Failure::new(format!(
            "{got} bytes came, and the guest says that they are {}",
            fetched.size
        )));
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(fetched.mode & 0o1777))?;
    let modified = Timespec {
        tv_sec: fetched.mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: fetched.mtime_ns.rem_euclid(1_000_000_000),
    };
    let access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: access, last_modification: modified };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// The only bound on the bytes of a directory is the room that there is for them.
fn no_room(error: GetError) -> Failure {
    if let GetError::Receive(ReceiveError::Limit { what: "bytes", limit }) = error {
        return Failure::new(format!("no space left: {limit} bytes are free, and more arrived"));
    }
    error.into()
}
