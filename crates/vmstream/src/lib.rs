//! A machine's state as a stream that a tool understands without the code that wrote it.
//!
//! ```text
//!   hello, schema*, manifest, (pages | disk | ram)*, switch, device*, pages*, finish
//! ```
//!
//! Every item is CBOR, every value has its name, and what each kind of record may hold travels along as a JSON Schema.
//! The format is specified to the byte in `docs/formats/vmstream.md`; this is one implementation of it, and knows no
//! virtual machine.
//!
//! | module | what it is |
//! |---|---|
//! | [`value`] | values and their one encoding |
//! | [`frame`] | the items of a stream |
//! | [`message`] | what metadata frames hold |
//! | [`schema`] | what a kind of record may hold |
//! | [`contract`] | what source and destination must agree on |
//! | [`record`] | structs that are records, by `#[derive(Record)]` |
//! | [`resolve`] | a writer's schema against a reader's, with a forecast |
//! | [`archive`] | streams in files: found by index or by scan, mapped, verified in pieces |
//! | [`chain`] | streams whose absent pages are in a parent |
//! | [`json`] | streams as JSON, and back to the same bytes |
//! | [`reader`], [`writer`] | streams, from and to anything that gives or takes bytes |
//!
//! What is wrong with an input is a [`Rule`] with a place; what keeps a machine from moving is a [`Finding`] with both sides' values.
#![forbid(unsafe_code)]

pub mod archive;
mod broken;
pub mod chain;
pub mod contract;
mod finding;
pub mod frame;
pub mod json;
pub mod limits;
pub mod message;
mod piece;
pub mod reader;
pub mod record;
pub mod resolve;
mod rule;
pub mod schema;
mod session;
pub mod value;
pub mod writer;

pub use broken::Broken;
pub use finding::Finding;
pub use piece::{Piece, is_zero};
pub use reader::{Event, ReadError, Reader};
pub use record::Record;
pub use rule::Rule;
pub use schema::Schema;
pub use value::{Map, Value};
pub use writer::{WriteError, Writer};
