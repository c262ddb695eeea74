//! Into a VM.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use bandsox_client::PutFile;
use bandsox_client::files::{Source, put_tree};
use bandsox_client::v1::V1;
use bandsox_proto::ByteString;
use bandsox_proto::control::TransferEvent;

use super::local::{self, Local};
use super::{Moved, Peer, as_text, inside};
use crate::command::upload::{Protocol, Route};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::storage::{self, Vm};

/// Copies a file, a directory or standard input into a VM.
pub(crate) fn upload(vm: Vm<'_>, from: &Path, remote: &OsStr, route: Route) -> Result<(), Failure> {
    let local = local::open(from)?;
    let mut peer = Peer::connect(vm, route)?;
    let _watch = peer.monitor.watched_by(&peer.interrupt.cancel)?;
    let result = match local {
        Local::Directory { name } => peer.put_directory(from, remote, name.as_deref()),
        Local::File { file, size, mode, mtime_ns, name } => {
            let name = name.as_deref();
            match peer.protocol {
                Protocol::V1 => peer.put_by_v1(&file, size, remote, name),
                Protocol::V2 => {
                    let put = PutFile {
                        file: &file,
                        size,
                        path: ByteString::from(remote),
                        name: name.map(ByteString::from),
                        mode,
                        mtime_ns,
                        transport: peer.transport,
                    };
                    peer.put_file(put, remote, name)
                }
            }
        }
    };
    result.map_err(|failure| {
        let what = format!("cannot upload {} to {}", from.display(), remote.to_string_lossy());
        peer.interrupt.explain(failure.context(what))
    })
}

impl Peer<'_> {
    fn put_file(
        &mut self,
        put: PutFile<'_>,
        remote: &OsStr,
        name: Option<&OsStr>,
    ) -> Result<(), Failure> {
        let mut progress = Progress::begin(self.ui, Some(put.size));
        let stored = self.monitor.put_file(put, &mut |bytes| progress.reach(bytes));
        let stored = stored.map_err(storage::refused)?;
        progress.end(stored.bytes);
        let path = match stored.path_b64 {
            Some(path) => OsString::from_vec(path.0.as_bytes().to_vec()),
            None => inside(remote, name),
        };
        Moved {
            what: "File uploaded",
            transport: stored.transport,
            path: &path,
            files: None,
            bytes: stored.bytes,
        }
        .tell(self.ui, Protocol::V2)
    }

    fn put_by_v1(
        &mut self,
        file: &File,
        size: u64,
        remote: &OsStr,
        name: Option<&OsStr>,
    ) -> Result<(), Failure> {
        let path = inside(remote, name);
        let text = as_text(&path)?;
        let mut progress = Progress::begin(self.ui, Some(size));
        let (bytes, transport) = self.over_channel(|channel| {
            Ok(V1::new(channel).upload(file, text, &mut |bytes| progress.reach(bytes))?)
        })?;
        progress.end(bytes);
        self.note(TransferEvent::Upload, transport, &ByteString::from(text), bytes);
        Moved { what: "File uploaded", transport, path: &path, files: None, bytes }
            .tell(self.ui, Protocol::V1)
    }

    fn put_directory(
        &mut self,
        from: &Path,
        remote: &OsStr,
        name: Option<&OsStr>,
    ) -> Result<(), Failure> {
        if self.protocol == Protocol::V1 {
            return Err(Failure::new(format!(
                "{} is a directory; protocol v1 moves single files",
                from.display()
            ))
            .hint("use --protocol v2"));
        }
        let total = self.ui.wants_progress().then(|| bytes_below(from));
        let source = Source::open(from)?;
        let mut progress = Progress::begin(self.ui, total);
        let (stored, transport) = self.over_channel(|channel| {
            let (path, name) = (ByteString::from(remote), name.map(ByteString::from));
            let put = put_tree(channel, source, path, name, &mut |bytes| progress.advance(bytes));
            Ok(put?)
        })?;
        progress.end(stored.sent.bytes);
        self.note(TransferEvent::Upload, transport, &stored.path, stored.sent.bytes);
        super::warn_of_skipped(self.ui, &stored.sent);
        Moved {
            what: "Directory uploaded",
            transport,
            path: stored.path.as_os_str(),
            files: Some(stored.sent.files),
            bytes: stored.sent.bytes,
        }
        .tell(self.ui, Protocol::V2)
    }
}

/// Roughly how much there is to send: only a bar depends on it.
fn bytes_below(directory: &Path) -> u64 {
    let mut total = 0_u64;
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file() {
                total = total.saturating_add(metadata.len());
            }
        }
    }
    total
}
