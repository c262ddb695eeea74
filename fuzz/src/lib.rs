//! Fuzz targets: what strangers send, given to the code that reads it.
//!
//! A target is a function of bytes that panics when a promise is broken: not only that nothing panics by itself, but that
//! what was read reads the same again, that memory stays bounded, that nothing outside of a target is touched. Each has a
//! module here and a program of the same name in `fuzz_targets/`.
//!
//! `cargo xtask fuzz` builds the programs with libFuzzer and runs them; they also work with `cargo fuzz`. Built like any
//! other package (without `--cfg fuzzing`) each program runs the inputs that it is given as files, so that a failure can be
//! looked at with ordinary tools. The seeds in `corpus/` are made by the targets themselves: `BLESS=1 cargo nextest run -p
//! bandsox-fuzz` writes them anew.

pub mod archive;
pub mod bridge;
pub mod documents;
pub mod frames;
pub mod kernel;
pub mod layers;
pub mod lines;
pub mod metadata;
pub mod mux;
pub mod projection;
pub mod qemu;
pub mod receive;
mod replay;
pub mod resolver;
pub mod saved;
mod scratch;
mod script;
pub mod store;
pub mod stream;
mod tarball;
pub mod transcode;
pub mod vsock;

pub use replay::replay;

/// A target by name.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of its module, its program and its corpus.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that reach far, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident),*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[
            $(Target { name: stringify!($name), run: $name::run, seeds: $name::seeds }),*
        ];
    };
}

targets!(
    archive, bridge, documents, frames, kernel, layers, lines, metadata, mux, projection, qemu,
    receive, resolver, saved, store, stream, transcode, vsock
);
