//! Tests against real kernels, real tools and real guests.
//!
//! They need `BANDSOX_TEST_KERNEL_DEB`, the path of a Debian cloud kernel's package; `cargo xtask test` sets it.

mod artifacts;
mod base;
mod guest;
mod hostile;
mod kernel;
mod layers;
