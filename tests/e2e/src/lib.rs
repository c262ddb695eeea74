//! The test bed: real kernels, real root file systems, the real program.
//!
//! ```text
//!   Bed (kernel .deb, root file system, vsock-peer)   made once, under target/testbed
//!     └─ Storage (a directory of its own)             one per test; kills what it started in Drop
//!          └─ Vm (id; start, exec, upload …)          each call runs the program as a user would
//! ```
//!
//! Nothing here imports a crate of the workspace: what the tests know of BandSox is what its users see, that is
//! commands, files and sockets. `cargo xtask demo` and `bench` stand on the same bed.

mod authority;
mod bed;
mod deadline;
mod fake_monitor;
mod layout;
mod mounts;
mod outcome;
mod processes;
mod proxy;
mod registry;
mod storage;
mod tap;
mod terminal;
mod vm;
mod vsock;

pub use authority::Authority;
pub use bed::{Bed, TAG as IMAGE_TAG, workspace_root};
pub use deadline::{GENEROUS, eventually};
pub use fake_monitor::{FakeMonitor, call_monitor};
pub use layout::Layout;
pub use mounts::{after_mounting, on_small_disk};
pub use outcome::{Outcome, Run, Started};
pub use processes::{Process, descendants, naming};
pub use proxy::Proxy;
pub use registry::Registry;
pub use storage::Storage;
pub use tap::Tap;
pub use terminal::Terminal;
pub use vm::Vm;
pub use vsock::connect;
