//! QEMU's migration stream as a vmstream, and back.
//!
//! ```text
//!  QEMU's ──to_vmstream──▶ hello, manifest, note, pages, …, schema*, note, switch, device*, finish
//!                                              │ as they come              │ one record for each section
//!  QEMU's ◀─from_vmstream─ ………………………………………………
//! ```
//!
//! | in QEMU's stream | in ours |
//! |---|---|
//! | RAM blocks | `memory` of the manifest |
//! | pages | frames of pages; a new epoch with each section |
//! | the body of a device's section | a record: path `0000:00:03.0/virtio-net` or `i8259@1` (name, instance), kind `virtio-net@11`, a schema made of QEMU's description and our layouts |
//! | what is not explained | a record of a kind that ends in `/opaque`, with `bytes` |
//! | heads, footers, commands, description, the order of all of it | notes named `qemu`, which no reader needs |
//!
//! In records, zero is the default of everything; lists and bytes end where only zeros follow. Of several fields of one
//! name, the second is `name[1]`; a subsection is a struct under the last part of its name.
//!
//! [`open()`] reads either format as ours.
#![forbid(unsafe_code)]

mod back;
mod channels;
mod coding;
mod device;
mod earlier;
mod encoder;
mod error;
mod from;
mod gather;
mod given;
mod groups;
mod held;
mod layout;
mod op;
mod open;
mod precopy;
mod queue;
mod same;
mod state;
mod target;
mod to;

pub use back::Misfit;
pub use earlier::Earlier;
pub use error::Error;
pub use from::{Form, Seen, Way, from_vmstream, from_vmstream_by};
pub use given::is_last_ahead;
pub use open::{Origin, Stream, cause, open, open_file, open_regular};
pub use to::{Content, Options, SOURCE_FAILED, file_to_vmstream, memory, to_vmstream};
