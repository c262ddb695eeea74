//! `bandsox cp`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bandsox_store::Store;

use super::upload::Route;
use crate::failure::Failure;
use crate::output::Ui;
use crate::storage::{self, Vm};
use crate::transfer;

/// Copy between this machine and a VM
///
/// One side is VM:PATH, the other a local path; a local path that holds a colon is written with a
/// leading ./ or /.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox cp test.txt web:/tmp/
  bandsox cp web:/var/log ./logs
  bandsox cp ./a:b web:/tmp/")]
pub(crate) struct CpArgs {
    /// What to copy: LOCAL or VM:PATH
    #[arg(value_name = "SOURCE")]
    source: OsString,

    /// Where to: VM:PATH or LOCAL
    #[arg(value_name = "TARGET")]
    target: OsString,

    #[command(flatten)]
    route: Route,
}

/// Copies the way that the arguments say.
pub(crate) fn run(ui: &Ui, store: &Store, args: &CpArgs) -> Result<(), Failure> {
    let CpArgs { source, target, route } = args;
    match (Side::of(source)?, Side::of(target)?) {
        (Side::Here(local), Side::There { vm, path }) => {
            let id = storage::resolve(store, vm)?;
            transfer::upload(Vm { ui, store, id: &id }, local, path, *route)
        }
        (Side::There { vm, path }, Side::Here(local)) => {
            let id = storage::resolve(store, vm)?;
            transfer::download(Vm { ui, store, id: &id }, path, local, *route)
        }
        (Side::Here(_), Side::Here(_)) => {
            Err(Failure::new("both sides are on this machine").hint("one side is VM:PATH"))
        }
        (Side::There { .. }, Side::There { .. }) => Err(Failure::new("both sides are in VMs")
            .hint("copy to this machine first, then into the other VM")),
    }
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a Path),
    There { vm: &'a str, path: &'a OsStr },
}

impl<'a> Side<'a> {
    /// What stands before the first colon is a VM, unless it looks like a path.
    fn of(text: &'a OsStr) -> Result<Self, Failure> {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':');
        let Some((vm, [_, path @ ..])) = colon.and_then(|at| bytes.split_at_checked(at)) else {
            return Ok(Self::Here(Path::new(text)));
        };
        if vm.is_empty() || vm.contains(&b'/') {
            return Ok(Self::Here(Path::new(text)));
        }
        let vm = std::str::from_utf8(vm).map_err(|_| Failure::new("a VM's name is text"))?;
        if path.is_empty() {
            return Err(Failure::new(format!("{vm}: names no path in the VM")));
        }
        Ok(Self::There { vm, path: OsStr::from_bytes(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(text: &str) -> Side<'_> {
        Side::of(OsStr::new(text)).expect("is a side")
    }

    #[test]
    fn a_colon_makes_a_guest_path_unless_a_slash_is_before_it() {
        let there = |vm, path| Side::There { vm, path: OsStr::new(path) };

        assert_eq!(side("web:/tmp/a:b"), there("web", "/tmp/a:b"));
        assert_eq!(side("web:relative"), there("web", "relative"));
        assert_eq!(side("./a:b"), Side::Here(Path::new("./a:b")));
        assert_eq!(side("/a:b"), Side::Here(Path::new("/a:b")));
        assert_eq!(side("plain"), Side::Here(Path::new("plain")));
        assert_eq!(side(":x"), Side::Here(Path::new(":x")));
        assert_eq!(side("-"), Side::Here(Path::new("-")));
    }

    #[test]
    fn a_vm_without_a_path_is_refused() {
        assert!(Side::of(OsStr::new("web:")).is_err());
    }
}
