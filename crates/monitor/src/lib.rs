//! One VM: lifecycle driver, agent links, control socket.
//!
//! ```text
//!  bandsox start ──spawn──▶ monitor process
//!                            ├─ driver      owns the engine and the phase; everything that happens is a message to it
//!                            ├─ links       vsock device and serial mux: channels to the agent
//!                            ├─ server      control socket; one thread per client
//!                            │   └─ transfer    one regular file between a client's descriptor and the guest
//!                            └─ console     the guest's console into a bounded log
//! ```
//!
//! # Order at start
//!
//! Lock, then lease, then RAM and disks, then the vsock device, then the engine, then the control socket, then the
//! guest's hello. Whoever asked for the start hears the outcome of all of it. Whatever fails gives back what came before.
//!
//! # What this crate promises
//!
//! - The engine never outlives the monitor, and the lease never outlives the lock.
//! - A request that makes no sense in the VM's phase is refused and changes nothing.
//! - No message of the guest or of a client makes it allocate without bound.
//!
//! # What it leaves to others
//!
//! - What a guest's exec output or directory tree means: clients speak to the agent themselves, over a channel.

mod agent;
mod console;
mod driver;
mod links;
mod log;
mod machine;
mod process;
mod report;
mod run;
mod server;
mod spawn;
mod state;
mod transfer;

pub use process::{MonitorArgs, run};
pub use spawn::{SpawnError, SpawnRequest, Started, spawn};
