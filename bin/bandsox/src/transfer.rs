//! Files on their way between this machine and a VM.

mod download;
mod local;
mod upload;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use bandsox_client::files::Done;
use bandsox_client::{Channel, Monitor};
use bandsox_proto::ByteString;
use bandsox_proto::control;

pub(crate) use download::download;
pub(crate) use upload::upload;

use crate::command::upload::{Protocol, Route, Transport};
use crate::failure::Failure;
use crate::output::{Ui, printable};
use crate::signals::Interrupt;
use crate::storage::{self, Vm};

/// A VM that files go to or come from, and how.
pub(crate) struct Peer<'a> {
    ui: &'a Ui,
    monitor: Monitor,
    interrupt: Interrupt,
    protocol: Protocol,
    transport: Option<control::Transport>,
}

impl<'a> Peer<'a> {
    /// Connects to the VM's monitor. From here on Ctrl-C ends the transfer, not the process.
    pub(crate) fn connect(vm: Vm<'a>, route: Route) -> Result<Self, Failure> {
        let monitor = storage::monitor(vm.store, vm.id)?;
        let interrupt = Interrupt::catch()?;
        let transport = route.transport.map(|transport| match transport {
            Transport::Vsock => control::Transport::Vsock,
            Transport::Serial => control::Transport::Serial,
        });
        Ok(Self { ui: vm.ui, monitor, interrupt, protocol: route.protocol, transport })
    }

    /// Opens a channel to the agent; `use_it` speaks on it.
    fn over_channel<T>(
        &mut self,
        use_it: impl FnOnce(&Channel) -> Result<T, Failure>,
    ) -> Result<(T, control::Transport), Failure> {
        let channel = self.monitor.open_channel(self.transport).map_err(storage::refused)?;
        let _watch = self.interrupt.cancel.watch(&channel)?;
        Ok((use_it(&channel)?, channel.transport()))
    }

    /// Has the monitor log what went over a channel. That it cannot is no reason to fail.
    fn note(
        &mut self,
        event: control::TransferEvent,
        transport: control::Transport,
        path: &ByteString,
        bytes: u64,
    ) {
        if let Err(error) = self.monitor.note(event, transport, path.clone(), bytes) {
            tracing::debug!(%error, "the monitor did not log the transfer");
        }
    }
}

/// What a transfer was, for the message at its end.
struct Moved<'a> {
    what: &'a str,
    transport: control::Transport,
    path: &'a OsStr,
    files: Option<u64>,
    bytes: u64,
}

impl Moved<'_> {
    /// Prints the migration guide's line, or the same as JSON.
    fn tell(&self, ui: &Ui, protocol: Protocol) -> Result<(), Failure> {
        let Self { what, transport, path, files, bytes } = *self;
        let path = path.to_string_lossy();
        // The guide's words: the serial link is the agent's old way.
        let over = match transport {
            control::Transport::Vsock => "vsock",
            control::Transport::Serial => "agent",
        };
        let count = match files {
            None => String::new(),
            Some(1) => "1 file, ".to_owned(),
            Some(files) => format!("{files} files, "),
        };
        // A line break in a name must not look like a message of its own.
        let shown = printable(&path).replace('\n', "\\n");
        ui.message(format!("{what} via {over}: {shown} ({count}{bytes} bytes)"));
        if ui.is_json() {
            ui.json(&serde_json::json!({
                "path": path,
                "bytes": bytes,
                "files": files.unwrap_or(1),
                "transport": transport,
                "protocol": match protocol { Protocol::V1 => "v1", Protocol::V2 => "v2" },
            }))?;
        }
        Ok(())
    }
}

/// A guest path as protocol v1 can say it.
fn as_text(path: &OsStr) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        Failure::new(format!("{} is not UTF-8, which protocol v1 needs", path.to_string_lossy()))
            .hint("use --protocol v2")
    })
}

/// A guest path that ends in `/`, with the name that the file gets there.
fn inside(remote: &OsStr, name: Option<&OsStr>) -> OsString {
    let mut path = remote.as_bytes().to_vec();
    if let Some(name) = name.filter(|_| path.ends_with(b"/")) {
        path.extend_from_slice(name.as_bytes());
    }
    OsString::from_vec(path)
}

/// The last component of a guest path; `None` for `/`, `.` and `..`.
fn name_of(path: &OsStr) -> Option<&OsStr> {
    Path::new(path).file_name()
}

/// Says what a directory had that cannot be copied.
fn warn_of_skipped(ui: &Ui, done: &Done) {
    if done.skipped > 0 {
        let names: Vec<_> = done.skipped_names.iter().map(ToString::to_string).collect();
        let more = if names.len() < usize::try_from(done.skipped).unwrap_or(usize::MAX) {
            ", …"
        } else {
            ""
        };
        ui.warn(format!(
            "left out {} that are no files, directories or links: {}{more}",
            done.skipped,
            names.join(", ")
        ));
    }
}
