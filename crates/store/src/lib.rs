//! The storage directory: metadata, allocators, locks.
//!
//! ```text
//!   metadata/<id>.json   what is written down about a VM; people read and edit it
//!   locks/<id>.lock      held by its monitor: held means that the VM lives
//!   locks/store.lock     held for each single change, by whichever process makes it
//!   *_allocator.json     which CID and port come next; a cache that people may reset
//! ```
//!
//! # What this crate promises
//!
//! - Whatever interrupts a change, the next command finds the state before it or after it, or
//!   something that it recognises as unfinished and can finish or undo.
//! - No two live VMs have the same CID or port, whatever becomes of the allocator files.
//! - A dead VM is known as dead, with the reason, by the first command that looks.
//! - Nothing that a damaged metadata file may refer to is reclaimed.
//!
//! # What it leaves to others
//!
//! - Making disks and images: it says where they lie and when they may go.
//! - Running anything: a monitor takes over a VM's lock and reports its phases here.
//!
//! `docs/formats/storage.md` describes the files for people and other programs.

mod allocator;
mod cleanup;
mod create;
mod file;
mod guard;
mod identity;
mod lease;
mod list;
pub mod log;
mod metadata;
mod ofd;
mod paths;
mod record;
mod remove;
mod resolve;
mod run;
mod store;
mod usage;
mod vm_lock;

pub use cleanup::{CleanupError, CleanupReport, Failed, Kept, Mode, Reclaimed, What, Why};
pub use create::{CreateError, Creation};
pub use file::{Doing, FileError};
pub use guard::GuardError;
pub use identity::{ProcessIdentity, boot_id};
pub use lease::{CIDS, Lease, LeaseError, PORTS};
pub use list::{DamagedEntry, Entry, LiveState, StateError};
pub use metadata::{
    Damage, Metadata, NewVm, PathNotText, Transport, VsockConfig, VsockRequired, WrongType,
};
pub use paths::Paths;
pub use remove::{RemoveError, Removed};
pub use resolve::{Candidate, ResolveError};
pub use store::{Create, NameError, OpenError, ReadError, RenameError, Store, UpdateError};
pub use usage::{BaseUser, BasesInUse, Usage, Used};
pub use vm_lock::{AdoptError, LockError, VmLock};
